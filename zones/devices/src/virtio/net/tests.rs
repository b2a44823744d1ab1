//! The NIC against a small vhost-user back end that sends every packet back.

mod echo;
mod reconnect;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_UFO,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use self::echo::{Behaviour, Echo};
use super::backend::Deadline;
use super::{ConnectBackendError, Net, QUEUE_SIZES, SharedRegion};
use crate::virtio::VirtioDevice;
use crate::virtio::test_guest::{DEADLINE, Guest, MEMORY, Seeded, hostile_guest, until};
use crate::virtio::threads::Unconfined;

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const RX: usize = 0;
const TX: usize = 1;

/// Where guest memory begins in its file: not at its start, as in a real machine.
const OFFSET: u64 = 0x10_0000;

const FEATURES: u64 = 1 << 32
    | 1 << 30
    | 1 << 29
    | 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_UFO
    | 1 << VIRTIO_NET_F_MRG_RXBUF;

struct Machine {
    guest: Guest,
    device: Net,
    echo: Arc<Mutex<Echo>>,
    backend: Option<JoinHandle<()>>,
    /// The test's handle on the back end's end of the stream.
    theirs: UnixStream,
}

fn memory() -> File {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(OFFSET + MEMORY).unwrap();
    file
}

fn regions(file: &File) -> Vec<SharedRegion> {
    let file = file.try_clone().unwrap();
    vec![SharedRegion { guest_address: 0, size: MEMORY, offset: OFFSET, file }]
}

fn machine(behaviour: Behaviour) -> Machine {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let echo = Arc::new(Mutex::new(Echo::new(FEATURES, behaviour)));
    let backend = echo::serve(theirs.try_clone().unwrap(), Arc::clone(&echo));
    let file = memory();
    let device = Net::new(ours, MAC, regions(&file), Arc::new(Unconfined)).unwrap();
    let guest = Guest::on_file(&QUEUE_SIZES, file, OFFSET);
    Machine { guest, device, echo, backend: Some(backend), theirs }
}

impl Machine {
    fn activate(&mut self) {
        self.guest.activate(&mut self.device, !(1 << 29));
    }

    fn status(&self) -> u8 {
        let mut status = [0xff; 2];
        self.device.read_config(6, &mut status);
        assert_eq!(status[1], 0);
        status[0]
    }

    /// Ends the back end.
    fn kill_backend(&mut self) {
        self.theirs.shutdown(std::net::Shutdown::Both).unwrap();
        self.backend.take().unwrap().join().unwrap();
    }
}

/// Waits for `event`; false when nothing comes within `limit`.
fn becomes_readable(event: &EventFd, limit: Duration) -> bool {
    let epoll = Epoll::new().unwrap();
    epoll.ctl(ControlOperation::Add, event.as_raw_fd(), EpollEvent::new(EventSet::IN, 0)).unwrap();
    let mut events = [EpollEvent::default()];
    epoll.wait(limit.as_millis() as i32, &mut events).unwrap() == 1
}

#[test]
fn offers_what_the_back_end_has() {
    let machine = machine(Behaviour::Honest);
    let features = machine.device.features();
    for bit in [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_MRG_RXBUF, 29] {
        assert_ne!(features & 1 << bit, 0, "{bit}");
    }
    for bit in [VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS] {
        assert_ne!(features & 1 << bit, 0, "{bit}");
    }
    // Not offered: what it lacks, what this device does not want, what is between us and it.
    for bit in [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_UFO, 30] {
        assert_eq!(features & 1 << bit, 0, "{bit}");
    }
    let mut config = [0; 8];
    machine.device.read_config(0, &mut config);
    assert_eq!(config, [0x52, 0x54, 0, 1, 2, 3, 1, 0]);
    assert_eq!(machine.device.device_type(), 1);
}

#[test]
fn packets_run_between_guest_and_back_end() {
    let mut machine = machine(Behaviour::Honest);
    for round in 0..3u8 {
        machine.activate();
        let calls = machine.guest.interrupt.descriptors();
        assert_eq!(calls.len(), 2);
        machine.guest.build(RX, 0, &[], &[2048]);
        machine.guest.offer(RX, 0);
        let packet = [round; 100];
        machine.guest.build(TX, 0, &[&packet[..60], &packet[60..]], &[]);
        machine.guest.offer(TX, 0);
        machine.guest.kick(TX);
        let (_, call) = calls.iter().find(|(queue, _)| *queue == RX as u16).unwrap();
        assert!(becomes_readable(call, DEADLINE));
        assert_eq!(machine.guest.await_used(RX), (0, 100));
        assert_eq!(machine.guest.await_used(TX), (0, 0));
        let memory = machine.guest.build(RX, 0, &[], &[2048])[0];
        assert_eq!(machine.guest.peek(memory, 100), packet);
        machine.device.reset();
        // The back end gave its rings back.
        assert!(machine.echo.lock().unwrap().is_idle());
    }
    let echo = machine.echo.lock().unwrap();
    assert_eq!(echo.acknowledged & 1 << VIRTIO_NET_F_MAC, 0);
    assert_eq!(echo.acknowledged, (machine.device.features() & FEATURES & !(1 << 29)) | 1 << 32 | 1 << 30);
    assert_eq!(machine.status(), 1);
}

#[test]
fn a_dead_back_end_is_a_link_that_is_down() {
    let mut machine = machine(Behaviour::Honest);
    machine.activate();
    let lost = machine.device.lost().unwrap();
    assert!(!becomes_readable(&lost, Duration::ZERO));
    machine.kill_backend();
    machine.guest.interrupt.wait("the link's end", |signals| signals.config == 1);
    assert!(becomes_readable(&lost, DEADLINE));
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.guest.interrupt.signals().needs_reset, 0);
    // The guest may reset and use the NIC as before; it only has no link.
    machine.device.reset();
    machine.activate();
    machine.device.reset();
    assert_eq!((machine.guest.interrupt.signals().config, lost.read().unwrap()), (1, 1));
}

#[test]
fn a_back_end_that_died_without_a_driver_is_noticed_at_once() {
    let mut machine = machine(Behaviour::Honest);
    let lost = machine.device.lost().unwrap();
    machine.kill_backend();
    assert!(becomes_readable(&lost, DEADLINE));
    machine.activate();
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.guest.interrupt.signals().config, 0);
}

#[test]
fn a_back_end_that_refuses_memory_is_lost() {
    let mut machine = machine(Behaviour::RefusesMemory);
    machine.activate();
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.guest.interrupt.signals().config, 1);
    machine.backend.take().unwrap().join().unwrap();
}

#[test]
fn a_ring_that_the_back_end_gives_up_needs_a_reset() {
    let mut machine = machine(Behaviour::Honest);
    machine.activate();
    machine.echo.lock().unwrap().give_up(0);
    machine.guest.interrupt.wait("a call for reset", |signals| signals.needs_reset == 1);
    assert_eq!(machine.status(), 1);
}

#[test]
fn needs_a_modern_back_end_that_answers() {
    for (features, expected) in [(1 << 32, 1 << 30), (1 << 30, 1 << 32), (0, 1 << 32 | 1 << 30)] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let echo = Arc::new(Mutex::new(Echo::new(features, Behaviour::Honest)));
        let backend = echo::serve(theirs, echo);
        match Net::new(ours, MAC, regions(&memory()), Arc::new(Unconfined)) {
            Err(ConnectBackendError::Features { missing, .. }) => assert_eq!(missing, expected),
            other => panic!("{:?}", other.err()),
        }
        backend.join().unwrap();
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(
        Net::new(ours, MAC, regions(&memory()), Arc::new(Unconfined)),
        Err(ConnectBackendError::Negotiation(_))
    ));
}

#[test]
fn a_silent_back_end_costs_a_deadline_and_no_more() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let cut = ours.try_clone().unwrap();
    let deadline = Deadline::new(Duration::from_millis(50), cut, &Unconfined).unwrap();
    // An exchange that is quick enough changes nothing for those that follow.
    deadline.during(|| Ok::<_, ()>(())).unwrap();
    let outcome = deadline.during(|| {
        let frontend = vhost::vhost_user::Frontend::from_stream(ours.try_clone().unwrap(), 2);
        vhost::VhostBackend::get_features(&frontend)
    });
    assert!(outcome.is_err());
}

#[test]
fn garbage_for_an_answer_is_an_error() {
    for seed in 0..50 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut random = Seeded(seed);
        let garbage: Vec<u8> = (0..200).map(|_| random.next() as u8).collect();
        std::io::Write::write_all(&mut &theirs, &garbage).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(Net::new(ours, MAC, regions(&memory()), Arc::new(Unconfined)).is_err());
    }
}

#[test]
fn survives_a_hostile_guest() {
    // The rings are the back end's; what the guest can do to this process is to activate and reset.
    for seed in [11, 12] {
        let machine = machine(Behaviour::Honest);
        let Machine { device, echo, backend, .. } = machine;
        echo.lock().unwrap().deaf.store(true, Ordering::Relaxed);
        hostile_guest(Box::new(device), seed, 150, |random: &mut Seeded| {
            random.next().to_le_bytes().to_vec()
        });
        backend.unwrap().join().unwrap();
        assert!(echo.lock().unwrap().starts > 2, "the attack attacked nothing");
    }
}

#[test]
fn returns_to_power_on() {
    crate::virtio::test_power::returns_to_power_on(|| {
        let Machine { device, guest, echo, .. } = machine(Behaviour::Honest);
        echo.lock().unwrap().deaf.store(true, Ordering::Relaxed);
        (Box::new(device), guest)
    });
}
