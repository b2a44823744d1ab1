//! The real firmware, with kernels of a few bytes. It uses integer instructions only, so a KVM that interprets runs it.

use std::sync::OnceLock;

use handover::failure::Failure;
use handover::place::KERNEL_FILE;
use handover::record::{Header, LONGEST, encode};

use super::*;

/// Most bytes of the firmware's file.
const MOST: usize = 96 * 1024;

/// A kernel that looks at what it was given: boot parameters (header, command line "quie...", initrd of 5000 bytes that
/// begins with 1, five ranges, root of the ACPI tables), SMBIOS entry, a mailbox that is empty, memory behind its own file
/// that is zero, a register that was wiped. It reports a failure, which is none of its business, and powers off. When
/// something is missing it ends by a triple fault.
#[rustfmt::skip]
const LOOKS: &[u8] = &[
    0x81, 0xbe, 0x02, 0x02, 0x00, 0x00, 0x48, 0x64, 0x72, 0x53,        //  0: cmp dword [rsi+0x202],"HdrS"
    0x75, 0x7b,                                                        //  a: jne 87
    0x8b, 0x86, 0x28, 0x02, 0x00, 0x00,                                //  c: mov eax,[rsi+0x228]
    0x81, 0x38, 0x71, 0x75, 0x69, 0x65,                                // 12: cmp dword [rax],"quie"
    0x75, 0x6d,                                                        // 18: jne 87
    0x81, 0xbe, 0x1c, 0x02, 0x00, 0x00, 0x88, 0x13, 0x00, 0x00,        // 1a: cmp dword [rsi+0x21c],5000
    0x75, 0x61,                                                        // 24: jne 87
    0x8b, 0x86, 0x18, 0x02, 0x00, 0x00,                                // 26: mov eax,[rsi+0x218]
    0x80, 0x38, 0x01,                                                  // 2c: cmp byte [rax],1
    0x75, 0x56,                                                        // 2f: jne 87
    0x80, 0xbe, 0xe8, 0x01, 0x00, 0x00, 0x05,                          // 31: cmp byte [rsi+0x1e8],5
    0x75, 0x4d,                                                        // 38: jne 87
    0x8b, 0x46, 0x70,                                                  // 3a: mov eax,[rsi+0x70]
    0x81, 0x38, 0x52, 0x53, 0x44, 0x20,                                // 3d: cmp dword [rax],"RSD "
    0x75, 0x42,                                                        // 43: jne 87
    0xb8, 0x10, 0x00, 0x0f, 0x00,                                      // 45: mov eax,0xf0010
    0x81, 0x38, 0x5f, 0x53, 0x4d, 0x33,                                // 4a: cmp dword [rax],"_SM3"
    0x75, 0x35,                                                        // 50: jne 87
    0xb8, 0x00, 0x00, 0xd5, 0xfe,                                      // 52: mov eax,0xfed50000
    0x48, 0x83, 0x38, 0x00,                                            // 57: cmp qword [rax],0
    0x75, 0x2a,                                                        // 5b: jne 87
    0x48, 0x83, 0x78, 0x10, 0x00,                                      // 5d: cmp qword [rax+0x10],0
    0x75, 0x23,                                                        // 62: jne 87
    0x80, 0x3d, 0x95, 0x00, 0x00, 0x00, 0x00,                          // 64: cmp byte [rip+0x95],0   (at 0x100)
    0x75, 0x1a,                                                        // 6b: jne 87
    0x48, 0x85, 0xdb,                                                  // 6d: test rbx,rbx
    0x75, 0x15,                                                        // 70: jne 87
    0xba, 0x04, 0x06, 0x00, 0x00,                                      // 72: mov edx,0x604
    0xb8, 0x05, 0x00, 0x00, 0x00,                                      // 77: mov eax,5
    0xef,                                                              // 7c: out dx,eax
    0xba, 0x00, 0x06, 0x00, 0x00,                                      // 7d: mov edx,0x600
    0xb0, 0x34,                                                        // 82: mov al,0x34
    0xee,                                                              // 84: out dx,al
    0xeb, 0xfe,                                                        // 85: jmp 85
    0x0f, 0x01, 0x1d, 0x72, 0x00, 0x00, 0x00,                          // 87: lidt [rip+0x72]         (at 0x100)
    0x0f, 0x0b,                                                        // 8e: ud2
];

/// A kernel that resets the machine: mov edx,0x602; mov al,1; out dx,al; jmp
const RESETS: &[u8] = &[0xba, 0x02, 0x06, 0x00, 0x00, 0xb0, 0x01, 0xee, 0xeb, 0xfe];

/// A kernel that begins with what is no instruction: ud2
const BREAKS: &[u8] = &[0x0f, 0x0b];

/// The firmware as the images have it, built by cargo from this checkout.
fn built() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_vmm")).parent().unwrap().parent().unwrap();
        let status = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--quiet", "--release", "--locked", "--package", "zone_fw"])
            .args(["--target", "x86_64-unknown-none", "--target-dir"])
            .arg(target)
            .status()
            .unwrap();
        assert!(status.success(), "the firmware does not compile");
        std::fs::read(target.join("x86_64-unknown-none/release/zone_fw")).unwrap()
    })
}

/// An ELF file whose only segment has `code` and is entered at its beginning. Loaded where the VMM puts it, it lies
/// `shift` bytes from its place.
fn kernel(code: &[u8], shift: u64) -> Vec<u8> {
    let address = KERNEL_FILE + 0x1000 + shift;
    let size = u64::try_from(code.len()).unwrap();
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u8, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([address, 64, 0].map(u64::to_le_bytes).concat());
    file.extend([0_u16, 0, 64, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    file.extend([0x1000, address, address, size, 0x3000, 4096].map(u64::to_le_bytes).concat());
    file.resize(0x1000, 0);
    file.extend(code);
    // What follows the segment in the file, and so in memory, is not zero.
    file.extend([0xEE; 0x800]);
    file
}

/// The events of a start by the firmware.
fn start(
    test: &str,
    kernel: &[u8],
    record: Option<&[u8]>,
    says: &[(usize, &'static str)],
) -> Option<Vec<String>> {
    run_files(test, &Files { firmware: built(), kernel, record, tpm: None }, after(says))
}

fn ends(test: &str, kernel: &[u8], record: Option<&[u8]>, failure: Failure) {
    let Some(events) = start(test, kernel, record, &[]) else { return };
    let end = format!("Ended(Failed(\"the zone's firmware: {}\"))", failure.sentence());
    assert_eq!(events, ["Started", &end, "exit status: 0"], "{test}");
}

fn record(no_vtpm_yet: bool) -> Vec<u8> {
    let mut record = [0; LONGEST];
    let header = Header { no_vtpm_yet, nonce: [3; 32], identity: [4; 32] };
    let length = encode(&header, &[("login.noauth", b"yes")], &mut record).unwrap();
    record[..length].to_vec()
}

#[test]
fn the_firmware_is_small() {
    assert!(built().len() <= MOST, "{} bytes", built().len());
}

#[test]
fn native_the_firmware_starts_a_kernel_with_what_it_expects() {
    for (shift, own) in [(0, None), (0x1000, None), (0, Some(record(true))), (0x20_0000, Some(record(true)))]
    {
        let test = format!("firmware, kernel {shift:#x} from its place");
        let Some(events) = start(&test, &kernel(LOOKS, shift), own.as_deref(), &[]) else { return };
        assert_eq!(events, ["Started", "Ended(ShutDown)", "exit status: 0"], "{test}");
    }
}

#[test]
fn native_a_guest_that_resets_itself_goes_through_the_firmware_again() {
    const TIMES: usize = 20;
    let Some(events) = start("firmware, reset", &kernel(RESETS, 0), None, &[(TIMES + 1, "kill")]) else {
        return;
    };
    let started = events.iter().take_while(|event| *event == "Started").count();
    assert!(started > TIMES, "{events:?}");
    assert_eq!(events[started..], ["Ended(Failed(\"killed on request\"))", "exit status: 0"]);
}

#[test]
fn native_a_kernel_that_breaks_at_once_is_no_failure_of_the_firmware() {
    let Some(events) = start("firmware, broken kernel", &kernel(BREAKS, 0), None, &[]) else { return };
    assert_eq!(events, ["Started", "Ended(Failed(\"triple fault\"))", "exit status: 0"]);
}

#[test]
fn native_what_the_firmware_refuses_ends_the_machine_with_a_sentence() {
    let good = kernel(LOOKS, 0);
    ends("firmware, no record", &good, Some(&[]), Failure::NoRecord);
    let mut wrong = record(true);
    wrong[0] ^= 1;
    ends("firmware, wrong record", &good, Some(&wrong), Failure::Record);
    ends("firmware, record for a vTPM that is not there", &good, Some(&record(false)), Failure::TpmSilent);
    ends("firmware, no kernel", b"no kernel", None, Failure::KernelKind);
    ends("firmware, kernel outside of memory", &kernel(LOOKS, 0x200_0000), None, Failure::KernelOutside);
    ends("firmware, kernel over the initrd", &kernel(LOOKS, 0xFF_D000), None, Failure::KernelOverlap);
}
