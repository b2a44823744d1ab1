//! The VMM as a process: descriptors in, events out, on this machine's own KVM, with a firmware of a few bytes, or the real
//! one and a kernel of a few bytes.
//! Where there is no KVM, the tests say so and pass.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, all of it")]

#[path = "process/firmware.rs"]
mod firmware;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A firmware that powers off: MOV DX, 0x600; MOV AL, 0x34; OUT DX, AL; then a loop.
const POWER_OFF: &[u8] = &[0x66, 0xBA, 0x00, 0x06, 0xB0, 0x34, 0xEE, 0xEB, 0xFE];
/// A firmware that loops.
const LOOP: &[u8] = &[0xEB, 0xFE];
/// A firmware that leaves as Linux does: to the reset vector in real mode. JMP to a 16-bit segment, clear CR0.PE,
/// far jump. (The segments are in itself, at 1 MiB + 0x100.)
const RESET: &[u8] = &[
    0x0F, 0x01, 0x15, 0x18, 0x01, 0x10, 0x00, // LGDT [0x100118]
    0x31, 0xC0, // XOR EAX, EAX
    0xC7, 0x05, 0x00, 0x08, 0x00, 0x00, 0x0F, 0x20, 0xC0,
    0x24, // MOV [0x800], first four bytes of the code below
    0xC7, 0x05, 0x04, 0x08, 0x00, 0x00, 0xFE, 0x0F, 0x22,
    0xC0, // MOV EAX, CR0; AND AL, 0xFE; MOV CR0, EAX
    0xC7, 0x05, 0x08, 0x08, 0x00, 0x00, 0xEA, 0xF0, 0xFF, 0x00, // JMP 0xF000:0xFFF0
    0xC7, 0x05, 0x0C, 0x08, 0x00, 0x00, 0xF0, 0x00, 0x00, 0x00, //
    0xEA, 0x00, 0x08, 0x00, 0x00, 0x10, 0x00, // JMP 0x10:0x800
];
/// Descriptor table of [`RESET`]: nothing, flat 32-bit code, 16-bit code; then the register that loads it.
const SEGMENTS: &[u64] = &[0, 0x00CF_9B00_0000_FFFF, 0x0000_9B00_0000_FFFF, 0x0010_0100 << 16 | 23];

/// An ELF file with `code` at 1 MiB and a PVH entry there.
fn tiny(code: &[u8]) -> Vec<u8> {
    let header = |kind: u32, offset: u64, address: u64, size: u64| {
        let words = [offset, address, address, size, size, 4].map(u64::to_le_bytes).concat();
        [&kind.to_le_bytes()[..], &7_u32.to_le_bytes(), &words].concat()
    };
    let note = [[4_u32, 4, 18].map(u32::to_le_bytes).concat(), b"Xen\0\0\0\x10\0".to_vec()].concat();
    let mut load = code.to_vec();
    load.resize(0x100, 0);
    load.extend(SEGMENTS.iter().flat_map(|segment| segment.to_le_bytes()));
    let size = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap();
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u8, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([0x10_0000_u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend([0_u16, 0, 64, 56, 2, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend(header(4, 64 + 112, 0, size(&note)));
    file.extend(header(1, 64 + 112 + size(&note), 0x10_0000, size(&load)));
    file.extend(note);
    file.extend(load);
    file
}

/// The example that stands in for `zoned`; cargo builds it before this test runs.
fn launcher() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_vmm")).with_file_name("examples").join("launch")
}

/// What a machine is started from.
struct Files<'a> {
    firmware: &'a [u8],
    kernel: &'a [u8],
    /// A login record, or that of a zone without a vTPM.
    record: Option<&'a [u8]>,
    /// `tpm`, or nothing.
    tpm: Option<&'a str>,
}

/// Runs a VMM on `firmware`; see [`run_files`].
fn run(test: &str, firmware: &[u8], says: impl Fn(&[String]) -> Option<&'static str>) -> Option<Vec<String>> {
    run_with(test, firmware, None, says)
}

/// The same, perhaps with a TPM.
fn run_with(
    test: &str,
    firmware: &[u8],
    tpm: Option<&str>,
    says: impl Fn(&[String]) -> Option<&'static str>,
) -> Option<Vec<String>> {
    run_files(test, &Files { firmware, kernel: b"opaque", record: None, tpm }, says)
}

/// Runs a VMM and gives its events; after each of them `says` chooses the words to the launcher.
fn run_files(
    test: &str,
    files: &Files<'_>,
    says: impl Fn(&[String]) -> Option<&'static str>,
) -> Option<Vec<String>> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        println!("skipped {test}: /dev/kvm: {error}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let mut child = Command::new(launcher())
        .arg(env!("CARGO_BIN_EXE_vmm"))
        .args([path("firmware", files.firmware), path("kernel", files.kernel), path("initrd", &[1; 5000])])
        .arg(files.record.map_or_else(|| "-".into(), |record| path("record", record)))
        .args(["32", "1", "quiet"])
        .args(files.tpm)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut events = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let event = line.split_once("] ").unwrap().1.to_owned();
        events.push(event);
        if let Some(words) = says(&events) {
            writeln!(input, "{words}").unwrap();
        }
    }
    assert!(child.wait().unwrap().success());
    Some(events)
}

/// Words to say after so many events.
fn after(says: &[(usize, &'static str)]) -> impl Fn(&[String]) -> Option<&'static str> {
    |events: &[String]| says.iter().find_map(|(after, words)| (*after == events.len()).then_some(*words))
}

fn check(test: &str, kernel: &[u8], says: &[(usize, &'static str)], expected: &[&str]) {
    if let Some(events) = run(test, kernel, after(says)) {
        assert_eq!(events, expected, "{test}");
    }
}

#[test]
fn native_a_guest_powers_off() {
    check("power off", &tiny(POWER_OFF), &[], &["Started", "Ended(ShutDown)", "exit status: 0"]);
}

#[test]
fn native_a_guest_that_goes_to_the_reset_vector_starts_again_in_the_same_process() {
    const TIMES: usize = 100;
    let Some(events) = run("reset vector", &tiny(RESET), after(&[(TIMES + 1, "kill")])) else { return };
    let started = events.iter().take_while(|event| *event == "Started").count();
    // It goes on resetting itself until the command is there.
    assert!(started > TIMES, "{events:?}");
    assert_eq!(events[started..], ["Ended(Failed(\"killed on request\"))", "exit status: 0"]);
}

#[test]
fn native_a_guest_with_a_tpm_starts_when_its_tpm_did() {
    let says = [(1, "pause\ntpm"), (3, "resume"), (5, "tpm"), (7, "kill")];
    let Some(events) = run_with("reset with a TPM", &tiny(RESET), Some("tpm"), after(&says)) else { return };
    let expected = [
        "TpmWanted",
        // What came before the TPM is carried out when the machine runs.
        "Started",
        "Paused",
        "Resumed",
        "TpmWanted",
        "Started",
        "TpmWanted",
        "Ended(Failed(\"killed on request\"))",
        "exit status: 0",
    ];
    assert_eq!(events, expected);
    let says = [(1, "leave")];
    let Some(events) = run_with("reset without zoned", &tiny(RESET), Some("tpm"), after(&says)) else {
        return;
    };
    assert_eq!(events, ["TpmWanted", "exit status: 0"]);
}

#[test]
fn native_zoned_kills_a_guest_that_never_ends() {
    let expected = ["Started", "Ended(Failed(\"killed on request\"))", "exit status: 0"];
    check("kill", &tiny(LOOP), &[(1, "kill")], &expected);
}

#[test]
fn native_zoned_pauses_a_guest_and_lets_it_go_on() {
    let says = [(1, "pause"), (2, "pause"), (3, "resume"), (4, "resume"), (5, "pause"), (6, "kill")];
    let expected = [
        "Started",
        "Paused",
        "Paused",
        "Resumed",
        "Resumed",
        "Paused",
        "Ended(Failed(\"killed on request\"))",
        "exit status: 0",
    ];
    check("pause", &tiny(LOOP), &says, &expected);
}

/// A guest that resets itself all the time is hardly ever in the middle of a run when the command comes.
#[test]
fn native_a_guest_that_resets_itself_stays_paused() {
    const RESETS: usize = 20;
    const LOOKS: usize = 50;
    let is = |wanted: &'static str| move |event: &&String| event.as_str() == wanted;
    let says = |events: &[String]| match events.iter().filter(is("Paused")).count() {
        0 => (events.len() == RESETS).then_some("pause"),
        // Each look is an answer that a machine which runs on would have come before.
        1..LOOKS => events.last().filter(is("Paused")).map(|_paused| "pause"),
        LOOKS => Some("resume"),
        _ => None,
    };
    let says = |events: &[String]| match events.iter().position(|event| event == "Resumed") {
        Some(resumed) => (events.len() == resumed + RESETS).then_some("kill"),
        None => says(events),
    };
    let Some(events) = run("pause and reset", &tiny(RESET), says) else { return };
    let paused = events.iter().position(|event| event == "Paused").unwrap();
    let resumed = events.iter().position(|event| event == "Resumed").unwrap();
    assert!(events[paused..resumed].iter().all(|event| event == "Paused"), "{events:?}");
    assert!(events[resumed + 1..resumed + RESETS].iter().all(|event| event == "Started"), "{events:?}");
}

#[test]
fn native_a_machine_ends_with_zoned() {
    check("zoned gone", &tiny(LOOP), &[(1, "leave")], &["Started", "exit status: 0"]);
}

#[test]
fn native_a_firmware_that_is_none_is_said_to_be_none() {
    let Some(events) = run("no firmware", b"no firmware", |_| None) else { return };
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].starts_with("Ended(Failed(\"firmware image: "), "{events:?}");
    assert_eq!(events[1], "exit status: 0");
}
