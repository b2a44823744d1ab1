//! A whole machine on this machine's own KVM, with hand-made guests. Where there is none, the tests say so and
//! pass.

mod cycles;
mod guest;
mod hostile;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Barrier, Once};

use devices::pci;
use devices::virtio::block::{Access, Block};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vm_kvm::{Entry, GuestRam, Kvm};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zone_protocol::agent::PORT;
use zone_protocol::vmm::End;

use crate::layout;
use crate::machine::Machine;
use crate::roles::Maker;

/// Where the code of a guest starts.
const CODE: u64 = 0x1000;
/// Where the handler of [`guest::VIRTIO`] starts.
const HANDLER: u32 = 0x10C8;
/// Memory of a guest.
const MEMORY: u64 = 8 << 20;
/// The number of the first device behind host bridge and pvpanic.
const FIRST_DEVICE: u8 = 2;
const LIMIT: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// A machine with `code`, or the reason why there is none.
fn machine(test: &str, code: &[u8]) -> Option<Machine> {
    let kvm = match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(file) => Kvm::from_descriptor(file.into()).unwrap(),
        Err(error) => {
            println!("skipped {test}: /dev/kvm: {error}");
            return None;
        }
    };
    let ram = GuestRam::new(MEMORY).unwrap();
    ram.memory.write_slice(code, GuestAddress(CODE)).unwrap();
    Some(Machine::new(kvm, ram, maker()).unwrap())
}

/// A maker of threads. These tests are not linked as the program is: this C library's allocator asks the file system
/// for the number of processors when the ninth thread allocates, and for the kernel's policy when it first gives
/// memory back, which a thread in its role may not. It asks once for each.
pub(crate) fn maker() -> Arc<Maker> {
    static ASKED: Once = Once::new();
    ASKED.call_once(|| {
        let all_at_once = Barrier::new(32);
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    let space = vec![vec![1_u8; 32 * 1024]; 32];
                    all_at_once.wait();
                    drop(space);
                });
            }
        });
    });
    Arc::new(Maker::new().unwrap())
}

/// Runs the machine until it ends.
fn run(machine: &Machine) -> End {
    run_processors(machine, 1, &LIMIT).expect("the guest ends within the limit")
}

/// Runs `count` processors until the machine ends or the time is over.
fn run_processors(machine: &Machine, count: u8, limit: &Timespec) -> Option<End> {
    let vcpus = machine.vm.vcpus(count, Entry { instruction: CODE, start_info: 0 }).unwrap();
    let running = machine.start(vcpus).unwrap();
    let mut descriptors = [PollFd::from_borrowed_fd(machine.ending().event(), PollFlags::IN)];
    poll(&mut descriptors, Some(limit)).unwrap();
    let _exits = running.stop();
    machine.ending().take()
}

/// `./bulkhead test --soak` sets it for property tests: series are run in full then.
fn soak() -> bool {
    std::env::var_os("PROPTEST_CASES").is_some()
}

/// `MOV EDX, port; MOV AL, value; OUT DX, AL`, then a loop.
fn out(port: u16, value: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0xBA, low, high, 0, 0, 0xB0, value, 0xEE, 0xEB, 0xFE]
}

#[test]
fn native_power_off_reset_panic_and_triple_fault_are_told_apart() {
    let pvpanic = layout::BARS + u32::try_from(pci::bar_offset(1)).unwrap();
    let [a, b, c, d] = pvpanic.to_le_bytes();
    let cases = [
        (out(0x600, 0x34), End::ShutDown),
        (out(0x602, 1), End::Reset),
        // MOV BYTE [pvpanic], 1
        (vec![0xC6, 0x05, a, b, c, d, 1, 0xEB, 0xFE], End::Panic),
        // LIDT [0x3000] (zeros); UD2
        (vec![0x0F, 0x01, 0x1D, 0, 0x30, 0, 0, 0x0F, 0x0B], End::Failed("triple fault".to_owned())),
    ];
    for (code, expected) in cases {
        let Some(machine) = machine("ends", &code) else { return };
        assert_eq!(run(&machine), expected);
    }
}

/// A file of two sectors, and what is in it.
fn two_sectors() -> (File, Vec<u8>) {
    let file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..1024_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
    file.write_all_at(&content, 0).unwrap();
    (file, content)
}

/// Flat segments, one interrupt gate, and the registers that load them.
fn write_descriptor_tables(memory: &GuestMemoryMmap<()>) {
    let gdt = [0_u64, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF].map(u64::to_le_bytes).concat();
    let gate = u64::from(HANDLER & 0xFFFF) | 0x08 << 16 | 0x8E00 << 32;
    memory.write_slice(&gdt, GuestAddress(0x2000)).unwrap();
    memory.write_obj(gate, GuestAddress(0x2100 + 8 * 0x41)).unwrap();
    memory.write_slice(&[23, 0, 0, 0x20, 0, 0, 0, 0, 0x0F, 2, 0, 0x21, 0, 0], GuestAddress(0x7000)).unwrap();
}

/// Where configuration space and BAR of a device are.
fn places(number: u8) -> (u32, u32) {
    let ecam = u32::try_from(layout::ECAM + pci::config_offset(number)).unwrap();
    (ecam, layout::BARS + u32::try_from(pci::bar_offset(number)).unwrap())
}

/// Fills the memory for [`guest::VIRTIO`]: it will read sector 1 of the first device.
fn prepare_reader(memory: &GuestMemoryMmap<()>) {
    memory.write_slice(guest::VIRTIO, GuestAddress(CODE)).unwrap();
    write_descriptor_tables(memory);
    let (ecam, bar) = places(FIRST_DEVICE);
    memory.write_obj(ecam, GuestAddress(0x7020)).unwrap();
    memory.write_obj(bar, GuestAddress(0x7024)).unwrap();
    // The request: header, 512 bytes of data, status.
    memory.write_slice(&[0_u64, 1].map(u64::to_le_bytes).concat(), GuestAddress(0xD000)).unwrap();
    memory.write_obj(0xFF_u8, GuestAddress(0xD300)).unwrap();
    let descriptor = |address: u64, length: u32, flags: u16, next: u16| {
        [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()]
            .concat()
    };
    let chain = [descriptor(0xD000, 16, 1, 1), descriptor(0xE000, 512, 3, 2), descriptor(0xD300, 1, 2, 0)];
    memory.write_slice(&chain.concat(), GuestAddress(0xA000)).unwrap();
    // Available: index 1, head 0.
    memory.write_slice(&[0, 0, 1, 0, 0, 0], GuestAddress(0xB000)).unwrap();
}

/// Runs the reader, and looks at what it read.
fn check_reader(machine: &Machine, content: &[u8]) {
    assert_eq!(run(machine), End::ShutDown);
    let memory = &machine.vm.ram().memory;
    let mut read = [0; 512];
    memory.read_slice(&mut read, GuestAddress(0xE000)).unwrap();
    assert_eq!(read, content[512..]);
    let status: u8 = memory.read_obj(GuestAddress(0xD300)).unwrap();
    assert_eq!(status, 0);
    let used: [u8; 12] = memory.read_obj(GuestAddress(0xC000)).unwrap();
    assert_eq!(used, [0, 0, 1, 0, 0, 0, 0, 0, 0x01, 0x02, 0, 0]);
    let interrupts: u32 = memory.read_obj(GuestAddress(0x7030)).unwrap();
    assert!(interrupts >= 1);
}

#[test]
fn native_a_guest_reads_a_sector_through_pci_and_msix_before_and_after_a_reset() {
    let Some(mut machine) = machine("virtio-blk", &[]) else { return };
    let (file, content) = two_sectors();
    machine.attach(Box::new(Block::new(file, Access::ReadOnly, "test").unwrap())).unwrap();
    for _ in 0..3 {
        prepare_reader(&machine.vm.ram().memory);
        check_reader(&machine, &content);
        machine.reset().unwrap();
    }
}
