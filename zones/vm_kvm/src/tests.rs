//! Hand-made guests on this machine's own KVM. Where there is none, each test says so and passes.

mod guests;

use std::fs::OpenOptions;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const CODE: u64 = 0x1000;
/// Where the handler of `guests::MSI` starts.
const HANDLER: u32 = 0x1035;

/// What a guest did outside memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Out(u16, u32),
    In(u16),
    Store(u64, u32),
    Load(u64),
    Ended,
}

/// Records accesses; port 0x600 stops; reads give the address's low bytes.
struct Recorder(Mutex<Sender<Access>>);

impl Recorder {
    fn note(&self, access: Access) {
        self.0.lock().unwrap().send(access).unwrap();
    }
}

fn number(data: &[u8]) -> u32 {
    data.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

impl ExitHandler for Recorder {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        self.note(Access::In(port));
        data.fill(0xA5);
    }
    fn port_write(&self, port: u16, data: &[u8]) -> Next {
        if port == 0x600 {
            return Next::Stop;
        }
        self.note(Access::Out(port, number(data)));
        Next::Continue
    }
    fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.note(Access::Load(address));
        data.fill(0x3C);
    }
    fn memory_write(&self, address: u64, data: &[u8]) -> Next {
        self.note(Access::Store(address, number(data)));
        Next::Continue
    }
}

fn kvm() -> io::Result<Kvm> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
    Ok(Kvm::from_descriptor(file.into()).unwrap())
}

/// A machine with `code` at [`CODE`], or the reason why there is none.
fn machine(test: &str, code: &[u8]) -> Option<Vm> {
    let kvm = match kvm() {
        Ok(kvm) => kvm,
        Err(error) => {
            println!("skipped {test}: /dev/kvm: {error}");
            return None;
        }
    };
    let ram = GuestRam::new(2 << 20).unwrap();
    ram.memory.write_slice(code, GuestAddress(CODE)).unwrap();
    Some(Vm::new(&kvm, ram).unwrap())
}

fn word(vm: &Vm, address: u64) -> u32 {
    vm.ram().memory.read_obj(GuestAddress(address)).unwrap()
}

/// A thread that may do everything.
fn thread(name: String, work: Work) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}

/// Starts `count` processors, the first one at [`CODE`].
fn start(vm: &Vm, count: u8) -> (Vec<VcpuThread>, Receiver<Access>) {
    let (sender, receiver) = channel();
    let handler = Arc::new(Recorder(Mutex::new(sender.clone())));
    let vcpus = vm.vcpus(count, Entry { instruction: CODE, start_info: 0xB007 }).unwrap();
    let threads = vcpus
        .into_iter()
        .map(|vcpu| {
            let ended = sender.clone();
            vcpu.start(Arc::<Recorder>::clone(&handler), thread, move |_| ended.send(Access::Ended).unwrap())
                .unwrap()
        })
        .collect();
    (threads, receiver)
}

/// Flat segments 0x08 and 0x10, and one interrupt gate: vector 0x41 to `handler`.
fn write_descriptor_tables(vm: &Vm, handler: u32) {
    let memory = &vm.ram().memory;
    let gdt = [0_u64, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF].map(u64::to_le_bytes).concat();
    memory.write_slice(&gdt, GuestAddress(0x2000)).unwrap();
    let gate = u64::from(handler & 0xFFFF) | 0x08 << 16 | 0x8E00 << 32 | u64::from(handler >> 16) << 48;
    memory.write_obj(gate, GuestAddress(0x2100 + 8 * 0x41)).unwrap();
    memory.write_slice(&[23, 0, 0, 0x20, 0, 0], GuestAddress(0x7000)).unwrap();
    memory.write_slice(&[0x0F, 2, 0, 0x21, 0, 0], GuestAddress(0x7008)).unwrap();
}

#[test]
fn native_a_guest_boots_and_its_accesses_reach_the_handler() {
    let Some(vm) = machine("boot", guests::BOOT) else { return };
    let (threads, accesses) = start(&vm, 1);
    let seen: Vec<_> = std::iter::from_fn(|| accesses.recv_timeout(LIMIT).ok())
        .take_while(|access| *access != Access::Ended)
        .collect();
    let expected = [
        Access::Out(0x1234, 0x5A),
        Access::In(0x1234),
        Access::Store(0xD000_0010, 0xCAFE),
        Access::Load(0xD000_0012),
    ];
    assert_eq!(seen, expected);
    for thread in threads {
        assert_eq!(thread.join(), VcpuExitReason::Handled);
    }
    assert_eq!([word(&vm, 0x3000), word(&vm, 0x3004), word(&vm, 0x3008)], [0xB007, 0xA5A5_A5A5, 0x3C3C]);
    // APIC id 0 of one processor; a hypervisor; no VMX.
    assert_eq!(word(&vm, 0x300C) >> 16, 1);
    assert_eq!(word(&vm, 0x3010) & (1 << 31 | 1 << 5), 1 << 31);
}

#[test]
fn native_a_message_interrupts_the_guest_and_waits_while_muted() {
    let Some(vm) = machine("msi", guests::MSI) else { return };
    write_descriptor_tables(&vm, HANDLER);
    let vector = vm.msi_router().vector().unwrap();
    let other = vm.msi_router().vector().unwrap();
    let message = MsiMessage { address: 0xFEE0_0000, data: 0x41 };
    let (mut threads, accesses) = start(&vm, 1);
    let next = || {
        let Access::Out(port @ (0x81 | 0x82), count) = accesses.recv_timeout(LIMIT).unwrap() else {
            panic!("the guest did something else while waiting for an interrupt")
        };
        // What comes before the first interrupt carries no number.
        if port == 0x81 { 0 } else { count }
    };
    assert_eq!(next(), 0);
    // Muted: it stays with the vector, and goes out when the route is there.
    vector.trigger().unwrap();
    assert!(vector.pending());
    assert!(accesses.recv_timeout(Duration::from_millis(50)).is_err());
    vector.unmute(message).unwrap();
    assert_eq!(next(), 1);
    assert!(!vector.pending());
    // Live: a write to a duplicate is as good.
    vector.descriptor().unwrap().write(1).unwrap();
    assert_eq!(next(), 2);
    // Muted again, and forgotten; another vector with the same message still gets through.
    vector.mute().unwrap();
    vector.trigger().unwrap();
    vector.discard_pending();
    vector.unmute(message).unwrap();
    assert!(accesses.recv_timeout(Duration::from_millis(50)).is_err());
    other.unmute(message).unwrap();
    other.trigger().unwrap();
    assert_eq!(next(), 3);
    assert_eq!(threads.pop().unwrap().join(), VcpuExitReason::Handled);
}

#[test]
fn native_a_bound_store_bumps_its_descriptor_and_reaches_nobody_else() {
    let Some(mut vm) = machine("ioeventfd", guests::IOEVENT) else { return };
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    vm.notify_on_write(&event, 0xD000_3004).unwrap();
    let (mut threads, accesses) = start(&vm, 1);
    let seen = [accesses.recv_timeout(LIMIT).unwrap(), accesses.recv_timeout(LIMIT).unwrap()];
    assert_eq!(seen, [Access::Store(0xD000_3008, 7), Access::Ended]);
    assert_eq!(event.read().unwrap(), 5);
    assert_eq!(threads.pop().unwrap().join(), VcpuExitReason::Handled);
}

#[test]
fn native_a_shown_page_is_read_without_an_exit_and_written_with_one() {
    let Some(vm) = machine("read page", guests::READ_PAGE) else { return };
    let pages = vm.read_pages();
    pages.show(0xD000_0000, &[1; 8]).unwrap();
    pages.show(0xD000_0000, &[2, 2, 2, 2, 7, 7, 7, 7]).unwrap();
    let (mut threads, accesses) = start(&vm, 1);
    // The guest reads, writes, and reads again; then once more when the page is hidden.
    assert_eq!(accesses.recv_timeout(LIMIT).unwrap(), Access::Store(0xD000_0004, 0xCAFE));
    assert_eq!(accesses.recv_timeout(LIMIT).unwrap(), Access::Ended);
    assert_eq!([word(&vm, 0x3000), word(&vm, 0x3004)], [0x0707_0707, 0x0707_0707]);
    assert_eq!(threads.pop().unwrap().join(), VcpuExitReason::Handled);

    let Some(vm) = machine("hidden page", guests::READ_PAGE) else { return };
    let pages = vm.read_pages();
    pages.show(0xD000_0000, &[2; 8]).unwrap();
    pages.hide(0xD000_0000).unwrap();
    pages.hide(0xD000_0000).unwrap();
    let (mut threads, accesses) = start(&vm, 1);
    assert_eq!(accesses.recv_timeout(LIMIT).unwrap(), Access::Load(0xD000_0004));
    assert_eq!(threads.pop().unwrap().join(), VcpuExitReason::Handled);
    assert_eq!(word(&vm, 0x3000), 0x3C3C_3C3C);
}

#[test]
fn native_a_triple_fault_is_told_apart() {
    let Some(vm) = machine("triple fault", guests::FAULT) else { return };
    let (mut threads, accesses) = start(&vm, 1);
    assert_eq!(accesses.recv_timeout(LIMIT).unwrap(), Access::Ended);
    assert_eq!(threads.pop().unwrap().join(), VcpuExitReason::TripleFault);
}

#[test]
fn native_the_first_processor_wakes_the_second_and_both_can_be_kicked() {
    let Some(vm) = machine("two processors", guests::SMP) else { return };
    vm.ram().memory.write_slice(guests::AP, GuestAddress(0x8000)).unwrap();
    let (threads, accesses) = start(&vm, 2);
    assert_eq!(accesses.recv_timeout(LIMIT).unwrap(), Access::Ended);
    for thread in &threads {
        thread.kick();
    }
    let reasons: Vec<_> = threads.into_iter().map(VcpuThread::join).collect();
    assert_eq!(reasons, [VcpuExitReason::Handled, VcpuExitReason::Kicked]);
    assert_eq!(word(&vm, 0x3000), 0x77);
}

#[test]
fn native_a_kick_reaches_a_processor_at_any_moment() {
    // JMP to itself.
    let Some(vm) = machine("kick", &[0xEB, 0xFE]) else { return };
    let (mut threads, _accesses) = start(&vm, 1);
    let thread = threads.pop().unwrap();
    thread.kick();
    assert_eq!(thread.join(), VcpuExitReason::Kicked);
}

#[test]
fn native_a_paused_processor_does_nothing_until_it_may_go_on() {
    let Some(vm) = machine("pause", guests::COUNT) else { return };
    let (mut threads, _accesses) = start(&vm, 1);
    let thread = threads.pop().unwrap();
    // Again and again, at whatever moment of the guest's or the kernel's it comes.
    for _ in 0..20 {
        thread.pause();
        thread.wait_until_parked();
        let before = word(&vm, 0x3000);
        std::thread::park_timeout(Duration::from_millis(2));
        assert_eq!(word(&vm, 0x3000), before);
        thread.resume();
        let deadline = std::time::Instant::now() + LIMIT;
        while word(&vm, 0x3000) == before {
            assert!(std::time::Instant::now() < deadline, "it did not go on");
            std::thread::yield_now();
        }
    }
    // A paused one can be ended, and stays ended.
    thread.pause();
    thread.wait_until_parked();
    thread.kick();
    thread.pause();
    thread.resume();
    thread.wait_until_parked();
    assert_eq!(thread.join(), VcpuExitReason::Kicked);
}

#[test]
fn cleared_memory_is_empty_and_costs_nothing() {
    use std::os::unix::fs::MetadataExt;
    let ram = GuestRam::new(1 << 20).unwrap();
    for page in 0..256 {
        ram.memory.write_obj(page + 1, GuestAddress(page << 12)).unwrap();
    }
    let taken = || ram.file.metadata().unwrap().blocks();
    let full = taken();
    ram.clear().unwrap();
    assert_eq!((full > 0, taken()), (true, 0));
    assert_eq!(ram.file.metadata().unwrap().len(), 1 << 20);
    assert!((0..256).all(|page| ram.memory.read_obj::<u64>(GuestAddress(page << 12)).unwrap() == 0));
}

#[test]
fn native_a_machine_that_was_reset_has_new_processors_and_the_same_vectors_and_notifications() {
    let Some(mut vm) = machine("reset", guests::IOEVENT) else { return };
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    vm.notify_on_write(&event, 0xD000_3004).unwrap();
    let vector = vm.msi_router().vector().unwrap();
    let message = MsiMessage { address: 0xFEE0_0000, data: 0x41 };
    vector.unmute(message).unwrap();
    vector.mute().unwrap();
    for _ in 0..3 {
        let (mut threads, accesses) = start(&vm, 1);
        let seen = [accesses.recv_timeout(LIMIT).unwrap(), accesses.recv_timeout(LIMIT).unwrap()];
        assert_eq!(seen, [Access::Store(0xD000_3008, 7), Access::Ended]);
        assert_eq!(event.read().unwrap(), 5);
        assert_eq!(threads.pop().unwrap().join(), VcpuExitReason::Handled);
        vm.reset(&kvm().unwrap()).unwrap();
    }
    // The interrupt that was routed before reaches a guest of the new machine.
    vm.ram().clear().unwrap();
    vm.ram().memory.write_slice(guests::MSI, GuestAddress(CODE)).unwrap();
    write_descriptor_tables(&vm, HANDLER);
    let (mut threads, accesses) = start(&vm, 1);
    assert_eq!(accesses.recv_timeout(LIMIT).unwrap(), Access::Out(0x81, 0));
    vector.unmute(message).unwrap();
    for count in 1..=3 {
        vector.trigger().unwrap();
        assert!(
            std::iter::repeat_with(|| accesses.recv_timeout(LIMIT).unwrap())
                .any(|access| access == Access::Out(0x82, count))
        );
    }
    assert_eq!(threads.pop().unwrap().join(), VcpuExitReason::Handled);
}

#[test]
fn memory_is_one_sealed_file_below_and_above_the_hole() {
    use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
    let ram = GuestRam::new(LOW_LIMIT + (4 << 20)).unwrap();
    let regions: Vec<_> = ram
        .memory
        .iter()
        .map(|region| (region.start_addr().0, region.len(), region.file_offset().unwrap().start()))
        .collect();
    assert_eq!(regions, [(0, LOW_LIMIT, 0), (HIGH_START, 4 << 20, LOW_LIMIT)]);
    assert!(ram.file.set_len(0).is_err());
    assert!(matches!(GuestRam::new(4097), Err(MapMemoryError::Size(4097))));
    assert!(matches!(GuestRam::new(0), Err(MapMemoryError::Size(0))));
}
