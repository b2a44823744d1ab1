//! Back ends come and go while the guest runs.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::virtio::net::{NetControl, ReconnectError};

/// A new back end with the front end's end of its stream.
fn back_end(
    features: u64,
    behaviour: Behaviour,
) -> (UnixStream, UnixStream, Arc<Mutex<Echo>>, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let echo = Arc::new(Mutex::new(Echo::new(features, behaviour)));
    let thread = echo::serve(theirs.try_clone().unwrap(), Arc::clone(&echo));
    (ours, theirs, echo, thread)
}

impl Machine {
    /// Connects another back end, which must succeed.
    fn reconnect(&mut self, control: &NetControl) {
        let (ours, theirs, echo, thread) = back_end(FEATURES, Behaviour::Honest);
        control.reconnect(ours).unwrap();
        (self.theirs, self.echo) = (theirs, echo);
        if let Some(last) = self.backend.replace(thread) {
            last.join().unwrap();
        }
    }

    /// Makes a packet and a buffer for its echo available. No notification.
    fn offer_packet(&mut self, packet: &[u8]) {
        self.guest.build(RX, 0, &[], &[2048]);
        self.guest.offer(RX, 0);
        self.guest.build(TX, 0, &[packet], &[]);
        self.guest.offer(TX, 0);
    }

    /// Waits for the echo of the packet, and for nothing more.
    fn await_echo(&mut self, packet: &[u8]) {
        until("an echo", || self.guest.pending_used(RX) > 0 && self.guest.pending_used(TX) > 0);
        assert_eq!(self.guest.await_used(RX), (0, packet.len() as u32));
        assert_eq!(self.guest.await_used(TX), (0, 0));
        let place = 0x10_0000 + RX as u64 * 0x10_0000;
        assert_eq!(self.guest.peek(place, packet.len()), packet);
        assert_eq!((self.guest.pending_used(RX), self.guest.pending_used(TX)), (0, 0));
    }
}

#[test]
fn a_new_back_end_goes_on_where_the_last_one_stood() {
    let mut machine = machine(Behaviour::Honest);
    let control = machine.device.control();
    let lost = control.lost().unwrap();
    machine.activate();
    for round in 1..6u8 {
        machine.offer_packet(&[round; 60]);
        machine.guest.kick(TX);
        machine.await_echo(&[round; 60]);
        machine.kill_backend();
        assert!(becomes_readable(&lost, DEADLINE));
        assert_eq!(lost.read().unwrap(), 1);
        assert_eq!(machine.status(), 0);
        // A packet whose notification the dead back end had taken.
        machine.offer_packet(&[round + 100; 70]);
        let before = machine.guest.interrupt.signals();
        machine.reconnect(&control);
        machine.await_echo(&[round + 100; 70]);
        // That one alone: what the dead one had sent is not sent again.
        assert_eq!(machine.echo.lock().unwrap().echoed, 1);
        assert_eq!(machine.status(), 1);
        let after = machine.guest.interrupt.signals();
        assert_eq!((after.config, after.needs_reset), (u64::from(round) * 2, 0));
        // An interrupt may have died with the back end.
        for queue in [RX, TX] {
            assert_eq!(after.queues[queue], before.queues[queue] + 1);
        }
        assert!(!becomes_readable(&lost, Duration::ZERO));
    }
    machine.device.reset();
    assert!(machine.echo.lock().unwrap().is_idle());
}

#[test]
fn a_loss_that_nobody_noted_is_over_with_the_next_back_end() {
    let mut machine = machine(Behaviour::Honest);
    let control = machine.device.control();
    let lost = control.lost().unwrap();
    machine.kill_backend();
    assert!(becomes_readable(&lost, DEADLINE));
    // No driver is there yet; it finds a link that is up.
    machine.reconnect(&control);
    assert!(!becomes_readable(&lost, Duration::ZERO));
    machine.activate();
    assert_eq!(machine.status(), 1);
    machine.offer_packet(&[1; 60]);
    machine.guest.kick(TX);
    machine.await_echo(&[1; 60]);
    // The watch goes on.
    machine.kill_backend();
    assert!(becomes_readable(&lost, DEADLINE));
}

#[test]
fn a_driver_that_starts_without_a_back_end_is_served_by_the_next_one() {
    let mut machine = machine(Behaviour::Honest);
    let control = machine.device.control();
    machine.kill_backend();
    assert!(becomes_readable(&control.lost().unwrap(), DEADLINE));
    for round in 0..3 {
        machine.activate();
        machine.offer_packet(&[round; 60]);
        machine.guest.kick(TX);
        machine.reconnect(&control);
        machine.await_echo(&[round; 60]);
        machine.device.reset();
        machine.kill_backend();
        machine.guest.interrupt = Arc::default();
        until("the link's end", || machine.status() == 0);
    }
}

#[test]
fn a_back_end_that_is_replaced_gives_its_rings_back_first() {
    let mut machine = machine(Behaviour::Honest);
    let control = machine.device.control();
    machine.activate();
    machine.offer_packet(&[1; 60]);
    machine.guest.kick(TX);
    machine.await_echo(&[1; 60]);
    let last = Arc::clone(&machine.echo);
    // Waits for the end of the last one's thread, too.
    machine.reconnect(&control);
    assert!(last.lock().unwrap().is_idle());
    assert!(!machine.echo.lock().unwrap().is_idle());
    assert!(!becomes_readable(&control.lost().unwrap(), Duration::ZERO));
    machine.offer_packet(&[2; 60]);
    machine.guest.kick(TX);
    machine.await_echo(&[2; 60]);
}

#[test]
fn a_bad_new_back_end_leaves_the_link_down_until_a_good_one_comes() {
    let mut machine = machine(Behaviour::Honest);
    let control = machine.device.control();
    let lost = control.lost().unwrap();
    machine.activate();
    let mut packet = 0u8;
    let mut check = |stream: UnixStream, expected: &str| {
        let config = machine.guest.interrupt.signals().config;
        let error = control.reconnect(stream).unwrap_err();
        assert!(format!("{error:?}").contains(expected), "{error:?}");
        assert_eq!(machine.status(), 0, "{expected}");
        // Two of them may have come at once; the driver reads what is.
        assert!(machine.guest.interrupt.signals().config > config);
        assert!(becomes_readable(&lost, Duration::ZERO), "{expected}");
        machine.reconnect(&control);
        assert!(!becomes_readable(&lost, Duration::ZERO));
        assert_eq!(machine.status(), 1);
        packet += 1;
        machine.offer_packet(&[packet; 60]);
        machine.guest.kick(TX);
        machine.await_echo(&[packet; 60]);
    };
    // It is gone; it says nothing; it says nonsense.
    check(UnixStream::pair().unwrap().0, "Negotiation");
    let (ours, silent) = UnixStream::pair().unwrap();
    check(ours, "Negotiation");
    drop(silent);
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &theirs, &[0xA5; 400]).unwrap();
    check(ours, "Negotiation");
    // It lacks what the guest was shown, though not what a device must have.
    let (ours, _theirs, _, thread) = back_end(FEATURES & !(1 << VIRTIO_NET_F_CSUM), Behaviour::Honest);
    check(ours, "missing: 1 }");
    thread.join().unwrap();
    // It does not take the memory: it is hung up on, for it may hold rings.
    let (ours, _theirs, _, thread) = back_end(FEATURES, Behaviour::RefusesMemory);
    check(ours, "Vhost(");
    thread.join().unwrap();
}

#[test]
fn a_back_end_without_what_the_guest_was_shown_is_named() {
    let mut machine = machine(Behaviour::Honest);
    machine.kill_backend();
    let (ours, _theirs, _, thread) = back_end(1 << 32 | 1 << 30, Behaviour::Honest);
    match machine.device.control().reconnect(ours) {
        Err(ReconnectError::Connect(ConnectBackendError::Features { missing, .. })) => {
            assert_eq!(
                missing,
                machine.device.features() & !(1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS)
            );
        }
        other => panic!("{other:?}"),
    }
    thread.join().unwrap();
}

#[test]
fn back_ends_come_and_go_while_the_driver_resets() {
    let mut machine = machine(Behaviour::Honest);
    let control = machine.device.control();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let rounds = Arc::new(AtomicU32::new(0));
    let replacer = std::thread::spawn({
        let (control, counted) = (control.clone(), Arc::clone(&rounds));
        move || {
            let mut random = Seeded(7);
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let (ours, theirs, echo, thread) = back_end(FEATURES, Behaviour::Honest);
                echo.lock().unwrap().deaf.store(true, Ordering::Relaxed);
                if random.below(4) == 0 {
                    // It dies some time during the exchange, or after it.
                    let killer = std::thread::spawn(move || {
                        std::thread::yield_now();
                        theirs.shutdown(std::net::Shutdown::Both).unwrap();
                    });
                    let _outcome = control.reconnect(ours);
                    killer.join().unwrap();
                } else {
                    control.reconnect(ours).unwrap();
                }
                drop(thread);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let mut round = 0;
    until("twenty back ends", || {
        machine.activate();
        round += 1;
        if round % 3 > 0 {
            machine.device.reset();
        }
        rounds.load(Ordering::Relaxed) >= 20
    });
    drop(stop);
    replacer.join().unwrap();
    machine.device.reset();
    machine.activate();
    machine.backend = None;
    machine.reconnect(&control);
    machine.offer_packet(&[9; 60]);
    machine.guest.kick(TX);
    machine.await_echo(&[9; 60]);
}
