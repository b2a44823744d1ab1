//! The whole daemon against fake ends: `init`, `uplink`, the VMM, the agent and a client, all in this
//! process, joined by the same descriptors as in production.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use control_api::client::Client;
use control_api::wire::{CallError, Method, Reply};
use init_protocol::{ExitCause, ZoneProfile};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use vpn_protocol::{ToUplink, VpndStatus};
use zone_protocol::agent::{Answer, Ask, Decoder, FromAgent, PORT, Request as AgentRequest, VERSION, encode};
use zone_protocol::vmm::{Command, Connected, End};

use super::*;
use crate::launch::tests::{Data, FIRMWARE, POLICY};
use world::*;

mod locks;
mod openings;
mod world;

#[test]
fn a_zone_starts_runs_a_check_and_stops() {
    let mut world = World::new("story");
    assert_eq!(world.status().policy, "Test");
    world.check_state(0, Phase::Stopped, None);
    let running = world.run(0);
    let mut client = Client::connect(&world.socket).unwrap();
    let arguments = vec!["http://intranet.example/".to_owned()];
    let check =
        Method::RunCheck { zone: "office".into(), check: "fetch".into(), arguments: arguments.clone() };
    client.begin(check).unwrap();
    world.settle();
    assert!(client.read_events().unwrap().is_empty());
    // A session is the policy's user's, and ends with the connection that said so.
    rustix::io::write(&running.agent, &encode(&FromAgent::Session { open: true }).unwrap()).unwrap();
    assert_eq!(world.zone(0).state.session.as_deref(), Some("user"));
    assert_eq!(world.zone(1).state.session, None);
    // A check that takes its time holds up nobody.
    world.check_state(0, Phase::Running, None);
    let request = next_request(&running.agent);
    assert_eq!(request.ask, Ask::RunCheck { name: "fetch".into(), arguments });
    let answer = Answer::Check { passed: true, output: "office".into() };
    let response = FromAgent::Response { number: request.number, answer };
    rustix::io::write(&running.agent, &encode(&response).unwrap()).unwrap();
    world.settle();
    let result = control_api::CheckResult { passed: true, output: "office".into() };
    assert_eq!(client.read_events().unwrap(), [Reply::Check(result)]);

    assert_eq!(world.call(Method::Stop("office".into())), Reply::Done);
    assert_eq!(next_request(&running.agent).ask, Ask::ShutDown);
    world.check_state(0, Phase::Stopping, None);
    assert_eq!(world.zone(0).state.session, None);
    running.events.send(&VmmEvent::Ended(End::ShutDown), &[]).unwrap();
    world.exited(running.vmm.number, ExitCause::Code(0));
    let vpnd = running.vpnd.unwrap().number;
    world.expect_kill(vpnd);
    world.exited(vpnd, ExitCause::Signal(9));
    world.check_state(0, Phase::Stopped, None);
    assert!(world.status().notices.is_empty());
    // A second start is a new pair of processes.
    let again = world.run(0);
    assert!(again.vmm.number > running.vmm.number);
}

#[test]
fn a_zone_whose_disk_does_not_open_does_not_start() {
    use zone_protocol::keeper::{FromKeeper, ToKeeper};
    let mut world = World::new("disk-refused");
    assert_eq!(world.call(Method::Start("vault".into())), Reply::Done);
    let mut vmm = world.next_spawn(ZoneProfile::Vmm, 1);
    let events = vmm.channel("events");
    events.send(&VmmEvent::TpmWanted, &[]).unwrap();
    world.settle();
    let ToKeeper::Begin { slot, number, .. } = world.next_asked() else { panic!("not begun") };
    let (data, record) = rustix::pipe::pipe().unwrap();
    world.keeper.send(&FromKeeper::Ready { slot, number }, &[data.as_fd(), record.as_fd()]).unwrap();
    world.settle();
    assert!(matches!(world.next_order(), Ok((Request::OpenPrivate { .. }, _))));
    world.tell_init(&InitEvent::DiskRefused { slot: 1, reason: "keeper gave no key".into() });
    world.expect_kill(vmm.number);
    world.exited(vmm.number, ExitCause::Signal(9));
    let reason = "The zone's private disk was not opened: keeper gave no key.";
    world.check_state(1, Phase::Failed, Some(reason));
    // An answer that nobody waits for closes the disk again.
    world.tell_init(&InitEvent::DiskOpened { slot: 1 });
    assert!(matches!(world.next_order(), Ok((Request::CloseDisk { slot: 1 }, _))));
}

#[test]
fn a_machine_gets_its_tpm_at_the_start_and_at_each_reset() {
    use zone_protocol::keeper::{FromKeeper, ToKeeper};
    let mut world = World::new("tpm");
    assert_eq!(world.call(Method::Start("vault".into())), Reply::Done);
    let mut vmm = world.next_spawn(ZoneProfile::Vmm, 1);
    let events = vmm.channel("events");
    events.set_nonblocking().unwrap();
    let mut starts = Vec::new();
    for is_first in [true, false] {
        events.send(&VmmEvent::TpmWanted, &[]).unwrap();
        world.settle();
        let ToKeeper::Begin { slot, number, start, disk } = world.next_asked() else { panic!("not begun") };
        assert_eq!((slot, world.tpms.get(&number), disk), (1, Some(&1), is_first));
        starts.push(start);
        let (data, far_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let (record, into_record) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&into_record, b"record").unwrap();
        let channels = [data.as_fd(), record.as_fd()];
        // What belongs to an earlier run reaches nobody.
        world.keeper.send(&FromKeeper::Ready { slot, number: number + 1 }, &channels).unwrap();
        let failed = FromKeeper::Failed { slot: 0, number, reason: "is another one's".into() };
        world.keeper.send(&failed, &[]).unwrap();
        world.settle();
        assert!(matches!(events.receive::<Command>(), Err(ReceiveError::WouldBlock)));
        world.keeper.send(&FromKeeper::Ready { slot, number }, &channels).unwrap();
        world.settle();
        if is_first {
            // The machine gets both at once, when the disk is there, too.
            assert!(matches!(events.receive::<Command>(), Err(ReceiveError::WouldBlock)));
            let (request, file) = world.next_order().unwrap();
            assert_eq!(request, Request::OpenPrivate { slot: 1, zone: "vault".into() });
            assert_eq!(rustix::fs::fstat(&file[0]).unwrap().st_size, 16 << 20);
            world.init.send(&InitEvent::DiskOpened { slot: 1 }, &[file[0].as_fd()]).unwrap();
            world.settle();
        }
        let (command, descriptors) = events.receive::<Command>().unwrap();
        assert_eq!((command, descriptors.len()), (Command::Tpm, if is_first { 3 } else { 2 }));
        rustix::io::write(&descriptors[0], b"command").unwrap();
        assert_eq!(rustix::io::read(&far_end, &mut [0; 16]).unwrap(), 7);
        assert_eq!(rustix::io::read(&descriptors[1], &mut [0; 16]).unwrap(), 6);
        events.send(&VmmEvent::Started, &[]).unwrap();
        world.settle();
        world.check_state(1, Phase::Starting, None);
    }
    // The template's manifest as it was signed.
    assert_eq!(starts[0], starts[1]);
    let rules =
        template::Rules::parse(&template::Rules::text(2, &crate::template::tests::key().public_key()));
    template::verify("micro", &starts[0].manifest, &starts[0].signature, &rules.unwrap()).unwrap();
    assert_eq!((&starts[0].template[..], &starts[0].approval[..]), ("micro", &b"approved"[..]));
    events.send(&VmmEvent::TpmWanted, &[]).unwrap();
    world.settle();
    let ToKeeper::Begin { slot, number, .. } = world.next_asked() else { panic!("not begun") };
    let reason = "answered INIT with 0x9".to_owned();
    world.keeper.send(&FromKeeper::Failed { slot, number, reason }, &[]).unwrap();
    world.settle();
    world.expect_kill(vmm.number);
    world.exited(vmm.number, ExitCause::Signal(9));
    world.check_state(1, Phase::Failed, Some("The zone's virtual TPM answered INIT with 0x9."));
    assert!(world.tpms.is_empty());
}

#[test]
fn the_uplink_learns_of_the_tunnel_and_again_after_its_restart() {
    let mut world = World::new("uplink");
    let running = world.run(0);
    let datagrams = |world: &World| {
        let (first, _) = world.uplink.receive::<ToUplink>().unwrap();
        assert_eq!(first, ToUplink::RemoveTunnel { tunnel: 0 });
        let (second, mut descriptors) = world.uplink.receive::<ToUplink>().unwrap();
        let ToUplink::AddTunnel { tunnel: 0, endpoints } = second else { panic!("{second:?}") };
        assert_eq!(endpoints[0].port, 51820);
        descriptors.remove(0)
    };
    let first = datagrams(&world);
    let vpnd = &running.vpnd.as_ref().unwrap().descriptors["uplink"];
    rustix::io::write(vpnd, b"one").unwrap();
    let mut bytes = [0; 16];
    assert_eq!(rustix::io::read(&first, &mut bytes).unwrap(), 3);
    drop(first);
    world.uplink.send(&FromUplink { carrier: true, ..FromUplink::default() }, &[]).unwrap();
    world.settle();
    assert!(world.status().uplink.carrier);
    let event =
        InitEvent::ServiceExited { service: "uplink".into(), cause: ExitCause::Signal(9), restarts: true };
    world.tell_init(&event);
    let second = datagrams(&world);
    rustix::io::write(vpnd, b"more").unwrap();
    assert_eq!(rustix::io::read(&second, &mut bytes).unwrap(), 4);
    let status = world.status();
    assert!(!status.uplink.carrier);
    let text = "The host's service uplink was killed by signal 9. It is started again.";
    assert_eq!(last_notice(&status), ("uplink", text));
}

#[test]
fn a_dead_tunnel_process_comes_back_under_a_running_zone() {
    let mut world = World::new("vpnd");
    let mut running = world.run(0);
    let vpnd = running.vpnd.as_mut().unwrap();
    let status = vpnd.channel("status");
    let up = VpndStatus { up: true, sent_bytes: 7, ..VpndStatus::default() };
    status.send(&up, &[]).unwrap();
    world.settle();
    let tunnel = world.zone(0).tunnel.unwrap();
    assert_eq!((tunnel.up, tunnel.sent_bytes, tunnel.reason), (true, 7, None));
    drop(status);
    while world.uplink.receive::<ToUplink>().is_ok() {}
    running.events.send(&VmmEvent::NetworkLost, &[]).unwrap();
    world.exited(vpnd.number, ExitCause::Signal(9));
    world.check_state(0, Phase::Running, None);
    let tunnel = world.zone(0).tunnel.unwrap();
    assert!(!tunnel.up);
    let reason = "The tunnel process was killed by signal 9. The tunnel is restarting.";
    assert_eq!(tunnel.reason.as_deref(), Some(reason));
    let text = "Zone office: the tunnel process was killed by signal 9. It is started again.";
    assert_eq!(last_notice(&world.status()), ("vpnd office", text));
    let due = world.daemon.zones[0].life.deadline().unwrap();
    world.daemon.tick(0, due).unwrap();
    // The same zone, the same machine: another tunnel process at the machine's and at the uplink's side.
    let mut again = world.next_spawn(ZoneProfile::Vpnd, 0);
    let (command, streams) = running.events.receive::<Command>().unwrap();
    assert_eq!((command, streams.len()), (Command::Network, 1));
    rustix::io::write(&again.descriptors["vhost"], b"vhost").unwrap();
    assert_eq!(rustix::io::read(&streams[0], &mut [0; 8]).unwrap(), 5);
    assert_eq!(world.uplink.receive::<ToUplink>().unwrap().0, ToUplink::RemoveTunnel { tunnel: 0 });
    let (added, datagrams) = world.uplink.receive::<ToUplink>().unwrap();
    assert!(matches!(added, ToUplink::AddTunnel { tunnel: 0, .. }));
    rustix::io::write(&again.descriptors["uplink"], b"sealed").unwrap();
    assert_eq!(rustix::io::read(&datagrams[0], &mut [0; 8]).unwrap(), 6);
    again.channel("status").send(&up, &[]).unwrap();
    world.settle();
    let tunnel = world.zone(0).tunnel.unwrap();
    assert_eq!((tunnel.up, tunnel.reason), (true, None));
}

/// The next `zoned`, told by `init` what the one before left. `lives`: processes of the one zone that runs.
fn next_zoned(mut world: World, lives: &[(u32, ZoneProfile)], gone: &[u32]) -> World {
    world.settle();
    while world.next_order().is_ok() {}
    let (init, their_init) = Channel::pair().unwrap();
    init.set_nonblocking().unwrap();
    let (uplink, their_uplink) = Channel::pair().unwrap();
    uplink.set_nonblocking().unwrap();
    for (slot, (state, names, descriptors)) in &world.stored {
        let stored = InitEvent::Stored { slot: *slot, state: state.clone(), names: names.clone() };
        let descriptors: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
        init.send(&stored, &descriptors).unwrap();
    }
    let tpms = world.tpms.keys().map(|process| (*process, ZoneProfile::Swtpm));
    for (process, profile) in lives.iter().copied().chain(tpms) {
        let slot = world.tpms.values().next().copied().unwrap_or(0);
        let zone = ["office", "vault"][usize::from(slot)].to_owned();
        init.send(&InitEvent::Lives { process, profile, slot, zone, pid: 1 }, &[]).unwrap();
    }
    for process in gone {
        init.send(&InitEvent::Exited { process: *process, cause: ExitCause::Signal(9) }, &[]).unwrap();
    }
    init.send(&InitEvent::HandedOver, &[]).unwrap();
    let varlink = rustix::io::fcntl_dupfd_cloexec(world.daemon.server.listener(), 0).unwrap();
    let meminfo = fs::File::open("/proc/meminfo").unwrap().into();
    let audit = Some(world.audit_file.try_clone().unwrap());
    let (keeper, keeper_end) = Channel::pair().unwrap();
    keeper.set_nonblocking().unwrap();
    let (init_end, uplink_end) = (their_init, their_uplink);
    let inherited =
        Inherited { init: init_end, uplink: uplink_end, keeper: keeper_end, varlink, meminfo, audit };
    let daemon = Daemon::new(world.daemon.paths.clone(), inherited, 200).unwrap();
    let World { socket, data, stored, audit_file, tpms, .. } = world;
    let mut next = World::around(daemon, (init, uplink, keeper), (socket, data, audit_file));
    (next.stored, next.tpms) = (stored, tpms);
    next.settle();
    next
}

#[test]
fn the_next_zoned_takes_a_running_zone_over() {
    let world = World::new("adopt");
    let mut world = world;
    let mut running = world.run(0);
    let vpnd = running.vpnd.as_mut().unwrap();
    let status = vpnd.channel("status");
    status.send(&VpndStatus { up: true, ..VpndStatus::default() }, &[]).unwrap();
    let lives = [(running.vmm.number, ZoneProfile::Vmm), (vpnd.number, ZoneProfile::Vpnd)];
    let mut world = next_zoned(world, &lives, &[]);
    world.check_state(0, Phase::Running, Some("The zone's agent hung up; the zone itself goes on."));
    assert!(world.zone(0).tunnel.unwrap().up);
    world.check_state(1, Phase::Stopped, None);
    // The uplink is told again, the agent comes again, everything else goes on where it was.
    assert_eq!(world.uplink.receive::<ToUplink>().unwrap().0, ToUplink::RemoveTunnel { tunnel: 0 });
    let (added, datagrams) = world.uplink.receive::<ToUplink>().unwrap();
    assert!(matches!(added, ToUplink::AddTunnel { tunnel: 0, .. }));
    rustix::io::write(&vpnd.descriptors["uplink"], b"sealed").unwrap();
    assert_eq!(rustix::io::read(&datagrams[0], &mut [0; 8]).unwrap(), 6);
    let agent = world.connect_agent(&running.vmm, PORT);
    let hello = zone_protocol::agent::Status { protocol: VERSION, version: "0.1".into(), uptime_ms: 9 };
    rustix::io::write(&agent, &encode(&FromAgent::Hello(hello)).unwrap()).unwrap();
    world.settle();
    world.check_state(0, Phase::Running, None);
    status.send(&VpndStatus::default(), &[]).unwrap();
    world.settle();
    assert!(!world.zone(0).tunnel.unwrap().up);
    // It stops as ever, and then nothing of it is kept.
    assert_eq!(world.call(Method::Stop("office".into())), Reply::Done);
    assert_eq!(next_request(&agent).ask, Ask::ShutDown);
    running.events.send(&VmmEvent::Ended(End::ShutDown), &[]).unwrap();
    world.exited(running.vmm.number, ExitCause::Code(0));
    world.expect_kill(lives[1].0);
    world.exited(lives[1].0, ExitCause::Signal(9));
    world.check_state(0, Phase::Stopped, None);
    assert!(matches!(world.next_order(), Err(ReceiveError::WouldBlock)));
    assert!(world.stored.is_empty());
}

#[test]
fn deaths_in_the_gap_are_not_lost() {
    let mut world = World::new("gap");
    let running = world.run(0);
    let (vmm, vpnd) = (running.vmm.number, running.vpnd.as_ref().unwrap().number);
    let mut world = next_zoned(world, &[(vpnd, ZoneProfile::Vpnd)], &[vmm]);
    world.expect_kill(vpnd);
    world.exited(vpnd, ExitCause::Signal(9));
    let reason = "The zone's virtual machine process was killed by signal 9.";
    world.check_state(0, Phase::Failed, Some(reason));
}

#[test]
fn a_zone_that_is_not_as_it_was_stored_is_ended_with_a_reason() {
    type Spoil = fn(&mut World);
    let spoilt: [(&str, Spoil, &str); 3] = [
        (
            "state",
            |world| world.stored.get_mut(&0).unwrap().0.truncate(3),
            "Zone office was ended when zoned started again: its state does not decode.",
        ),
        (
            "console",
            |world| {
                let (_, names, descriptors) = world.stored.get_mut(&0).unwrap();
                let place = names.iter().position(|name| name == "console").unwrap();
                names.remove(place);
                descriptors.remove(place);
            },
            "Zone office was ended when zoned started again: its console was not stored.",
        ),
        (
            "nothing",
            |world| world.stored.clear(),
            "Zone office was ended when zoned started again: it began while zoned ended.",
        ),
    ];
    for (name, spoil, text) in spoilt {
        let mut world = World::new(name);
        let running = world.run(0);
        let (vmm, vpnd) = (running.vmm.number, running.vpnd.as_ref().unwrap().number);
        world.settle();
        while world.next_order().is_ok() {}
        spoil(&mut world);
        let mut world = next_zoned(world, &[(vmm, ZoneProfile::Vmm), (vpnd, ZoneProfile::Vpnd)], &[]);
        world.expect_kill(vmm.min(vpnd));
        world.expect_kill(vmm.max(vpnd));
        assert_eq!(last_notice(&world.status()), ("zoned", text));
        world.check_state(0, Phase::Stopped, None);
        assert!(world.stored.is_empty());
    }
}

#[test]
fn a_zone_pauses_on_demand_and_a_second_start_is_refused() {
    let mut world = World::new("pause");
    let running = world.run(1);
    let office = |method: fn(String) -> Method| method("vault".to_owned());
    let refused = |text: &str| Reply::Error(CallError::Refused(text.to_owned()));
    assert_eq!(world.call(office(Method::Start)), refused("Zone vault is running already."));
    assert_eq!(world.call(office(Method::Pause)), Reply::Done);
    assert_eq!(running.events.receive::<Command>().unwrap().0, Command::Pause);
    running.events.send(&VmmEvent::Paused, &[]).unwrap();
    world.settle();
    world.check_state(1, Phase::Paused, None);
    assert_eq!(world.call(office(Method::Start)), refused("Zone vault is paused. Resume it to use it."));
    assert_eq!(world.call(office(Method::Resume)), Reply::Done);
    assert_eq!(running.events.receive::<Command>().unwrap().0, Command::Resume);
    running.events.send(&VmmEvent::Resumed, &[]).unwrap();
    world.settle();
    world.check_state(1, Phase::Running, None);
    assert_eq!(world.call(office(Method::Kill)), Reply::Done);
    world.expect_kill(running.vmm.number);
}

#[test]
fn the_power_button_asks_the_agents_first() {
    let mut world = World::new("button");
    let running = world.run(1);
    world.tell_init(&InitEvent::ShuttingDown { patience_ms: 20_000 });
    assert_eq!(next_request(&running.agent).ask, Ask::ShutDown);
    running.events.send(&VmmEvent::Ended(End::ShutDown), &[]).unwrap();
    world.exited(running.vmm.number, ExitCause::Code(0));
    assert_eq!(world.next_order().unwrap().0, Request::PowerOff);
}

#[test]
fn a_tunnel_that_stays_away_is_explained_in_time() {
    let mut world = World::new("away");
    let mut running = world.run(0);
    let status = running.vpnd.as_mut().unwrap().channel("status");
    world.daemon.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(world.zone(0).tunnel.unwrap().reason, None);
    let due = world.daemon.zones[0].tunnel_deadline().unwrap();
    assert!(due <= Instant::now() + crate::status::TUNNEL_PATIENCE);
    status.send(&VpndStatus { up: true, ..VpndStatus::default() }, &[]).unwrap();
    world.settle();
    assert_eq!(world.daemon.zones[0].tunnel_deadline(), None);
    status.send(&VpndStatus::default(), &[]).unwrap();
    let zone = &mut world.daemon.zones[0];
    assert!(zone.run.as_mut().unwrap().read_status());
    zone.watch_tunnel(Instant::now().checked_sub(crate::status::TUNNEL_PATIENCE).unwrap());
    assert!(zone.tunnel_deadline().is_some());
    world.settle();
    let reason = "The cable or radio is not connected. Connect this machine to a network.";
    assert_eq!(world.zone(0).tunnel.unwrap().reason.as_deref(), Some(reason));
    // Said once: nobody needs to be woken for it again.
    assert_eq!(world.daemon.zones[0].tunnel_deadline(), None);
}

#[test]
fn a_killed_machine_fails_its_zone_and_no_other() {
    let mut world = World::new("killed");
    let office = world.run(0);
    let _vault = world.run(1);
    world.exited(office.vmm.number, ExitCause::Signal(9));
    let vpnd = office.vpnd.unwrap().number;
    world.expect_kill(vpnd);
    world.exited(vpnd, ExitCause::Signal(9));
    let reason = "The zone's virtual machine process was killed by signal 9.";
    world.check_state(0, Phase::Failed, Some(reason));
    world.check_state(1, Phase::Running, None);
    assert_eq!(world.call(Method::Start("office".into())), Reply::Done);
    world.check_state(0, Phase::Starting, None);
}

#[test]
fn what_happens_stands_in_the_audit_log() {
    let mut world = World::new("audit-story");
    let running = world.run(0);
    world.exited(running.vmm.number, ExitCause::Signal(9));
    let vpnd = running.vpnd.unwrap().number;
    world.expect_kill(vpnd);
    world.exited(vpnd, ExitCause::Signal(9));
    let other = world.run(1);
    world.exited(other.vmm.number, ExitCause::ForbiddenSystemCall);
    assert!(matches!(world.call(Method::Start("nowhere".into())), Reply::Error(CallError::UnknownZone(_))));
    fs::remove_file(world.data.template("template.toml.minisig")).unwrap();
    assert!(matches!(world.call(Method::Start("vault".into())), Reply::Error(CallError::Refused(_))));
    let mut world = next_zoned(world, &[], &[]);
    world.tell_init(&InitEvent::ServiceExited {
        service: "zoned".into(),
        cause: ExitCause::Signal(9),
        restarts: true,
    });
    world.call(Method::PowerOff);
    let Reply::Audit(page) = world.call(Method::Audit { position: 1, limit: 100 }) else { panic!("no page") };
    let kinds: Vec<String> = page
        .records
        .iter()
        .map(|record| {
            let record: serde_json::Value = serde_json::from_str(record).unwrap();
            let zone = record["zone"].as_str().unwrap_or("-").to_owned();
            format!("{zone} {}", record["event"]["kind"].as_str().unwrap())
        })
        .collect();
    let expected = [
        "- zoned_started",
        "- policy_loaded",
        "office zone_started",
        "office process_died",
        "office zone_failed",
        "vault zone_started",
        "vault forbidden_system_call",
        "vault zone_failed",
        "- request_refused",
        "vault template_refused",
        "vault zone_failed",
        "- request_refused",
        "- zoned_started",
        "- policy_loaded",
        "- process_died",
        "- power_off",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(crate::audit::tests::verified(&page).unwrap().head.position, 16);
    // The new zoned's notices begin with what the one before had said.
    let Reply::Status(status) = world.call(Method::Status) else { panic!("no status") };
    let texts: Vec<&str> = status.notices.iter().map(|notice| notice.text.as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("process vmm of zone office was lost")), "{texts:?}");
    assert!(texts.last().unwrap().contains("service zoned"), "{texts:?}");
}

#[test]
fn last_words_are_heard_before_the_death() {
    let mut world = World::new("panic");
    let mut running = world.run(1);
    let console = running.vmm.descriptors.remove("console").unwrap();
    rustix::io::write(&console, b"Kernel panic - not syncing: test\n").unwrap();
    // Both arrive in one round, the death first in the daemon's order.
    running.events.send(&VmmEvent::Ended(End::Panic), &[]).unwrap();
    world.exited(running.vmm.number, ExitCause::Code(0));
    world.check_state(1, Phase::Failed, Some("The guest's kernel panicked."));
    let text = "Zone vault failed. The guest's kernel panicked.";
    assert_eq!(last_notice(&world.status()), ("vmm vault", text));
}

#[test]
fn a_reset_is_a_new_start_of_the_same_machine() {
    let mut world = World::new("reset");
    let running = world.run(1);
    running.events.send(&VmmEvent::Started, &[]).unwrap();
    world.settle();
    world.check_state(1, Phase::Starting, None);
    let agent = world.connect_agent(&running.vmm, PORT);
    let hello = zone_protocol::agent::Status { protocol: VERSION, version: "0.1".into(), uptime_ms: 5 };
    rustix::io::write(&agent, &encode(&FromAgent::Hello(hello)).unwrap()).unwrap();
    world.settle();
    world.check_state(1, Phase::Running, None);
}

#[test]
fn a_hostile_agent_loses_its_connection_only() {
    let mut world = World::new("hostile");
    let running = world.run(1);
    let mut client = Client::connect(&world.socket).unwrap();
    let check = Method::RunCheck { zone: "vault".into(), check: "x".into(), arguments: Vec::new() };
    client.begin(check.clone()).unwrap();
    world.settle();
    rustix::io::write(&running.agent, &[0xff; 64]).unwrap();
    world.settle();
    let broken = CallError::Refused("The connection to the zone's agent broke.".into());
    assert_eq!(client.read_events().unwrap(), [Reply::Error(broken)]);
    world.check_state(1, Phase::Running, Some("The zone's agent hung up; the zone itself goes on."));
    let gone = CallError::Refused("The agent of zone vault is not connected just now.".into());
    assert_eq!(world.call(check), Reply::Error(gone));
    // Any other port is closed at once, and the agent may come back.
    let other = world.connect_agent(&running.vmm, 22);
    assert_eq!(rustix::io::read(&other, &mut [0; 8]), Ok(0));
    let agent = world.connect_agent(&running.vmm, PORT);
    let status = zone_protocol::agent::Status { protocol: VERSION, version: "0.2".into(), uptime_ms: 5 };
    rustix::io::write(&agent, &encode(&FromAgent::Hello(status)).unwrap()).unwrap();
    world.settle();
    assert_eq!(world.zone(1).state.agent.as_deref(), Some("0.2"));
}

#[test]
fn a_client_that_left_is_forgotten() {
    let mut world = World::new("left");
    let running = world.run(1);
    let mut client = Client::connect(&world.socket).unwrap();
    let check = Method::RunCheck { zone: "vault".into(), check: "x".into(), arguments: Vec::new() };
    client.begin(check).unwrap();
    world.settle();
    assert_eq!(world.daemon.zones[1].run.as_ref().unwrap().checks.len(), 1);
    drop(client);
    world.settle();
    assert!(world.daemon.zones[1].run.as_ref().unwrap().checks.is_empty());
    let number = next_request(&running.agent).number;
    let response = FromAgent::Response { number, answer: Answer::Refused("late".into()) };
    rustix::io::write(&running.agent, &encode(&response).unwrap()).unwrap();
    world.settle();
    world.check_state(1, Phase::Running, None);
}

#[test]
fn a_guest_that_connects_for_ever_fills_no_log() {
    let mut world = World::new("reconnects");
    let running = world.run(1);
    for _ in 0..30 {
        drop(world.connect_agent(&running.vmm, PORT));
    }
    world.settle();
    let run = world.daemon.zones[1].run.as_ref().unwrap();
    assert!(!run.may_log() && run.link.is_none());
    world.check_state(1, Phase::Running, Some("The zone's agent hung up; the zone itself goes on."));
}

#[test]
fn an_agent_that_was_asked_is_insisted_upon() {
    let mut world = World::new("insist");
    let running = world.run(1);
    assert_eq!(world.call(Method::Stop("vault".into())), Reply::Done);
    let due = world.daemon.zones[1].life.deadline().unwrap();
    world.daemon.tick(1, due).unwrap();
    let (command, _) = running.events.receive::<Command>().unwrap();
    assert_eq!(command, Command::Kill);
    let due = world.daemon.zones[1].life.deadline().unwrap();
    world.daemon.tick(1, due).unwrap();
    world.expect_kill(running.vmm.number);
    world.exited(running.vmm.number, ExitCause::Signal(9));
    world.check_state(1, Phase::Stopped, None);
    assert!(world.status().notices.is_empty());
}

#[test]
fn what_cannot_start_says_why() {
    let mut world = World::new("refused");
    let unknown = Reply::Error(CallError::UnknownZone("nowhere".into()));
    assert_eq!(world.call(Method::Start("nowhere".into())), unknown);
    let not_running = Reply::Error(CallError::NotRunning("vault".into()));
    assert_eq!(world.call(Method::Stop("vault".into())), not_running);
    fs::remove_file(world.data.template("initrd")).unwrap();
    let Reply::Error(CallError::Refused(reason)) = world.call(Method::Start("vault".into())) else {
        panic!("started")
    };
    let folder = world.data.0.to_str().unwrap();
    let expected = "Not started: template \"micro\" is not installed: /data/templates/micro/initrd is missing; run \
                    `./bulkhead run` to build it.";
    assert_eq!(reason.replace(folder, "/data"), expected);
    world.check_state(1, Phase::Failed, Some(&reason));
    fs::write(world.data.template("initrd"), "initrd").unwrap();
    assert_eq!(world.call(Method::Start("vault".into())), Reply::Done);
    let process = world.next_spawn(ZoneProfile::Vmm, 1).number;
    world.tell_init(&InitEvent::Refused { process, reason: "out of memory".into(), containment: false });
    let reason = "The host did not start the zone's virtual machine process: out of memory.";
    world.check_state(1, Phase::Failed, Some(reason));
}

#[test]
fn a_policy_with_a_typo_gives_no_zones_but_a_notice() {
    let mut world = World::with_policy("typo", &POLICY.replacen("colour", "colur", 1));
    let status = world.status();
    assert!(status.zones.is_empty());
    assert!(status.notices.iter().any(|notice| notice.text.contains("colur")), "{:?}", status.notices);
}

#[test]
fn power_off_waits_for_the_zones() {
    let mut world = World::new("power-off");
    let running = world.run(1);
    assert_eq!(world.call(Method::PowerOff), Reply::Done);
    assert_eq!(next_request(&running.agent).ask, Ask::ShutDown);
    assert!(matches!(world.next_order(), Err(ReceiveError::WouldBlock)));
    let refused = CallError::Refused("The host is powering off.".into());
    assert_eq!(world.call(Method::Start("office".into())), Reply::Error(refused));
    running.events.send(&VmmEvent::Ended(End::ShutDown), &[]).unwrap();
    world.exited(running.vmm.number, ExitCause::Code(0));
    assert_eq!(world.next_order().unwrap().0, Request::PowerOff);
}

/// `zlink` as the other end: somebody else's idea of the protocol.
mod independent {
    use super::*;
    use control_api::INTERFACE;

    #[derive(Debug, serde::Deserialize)]
    struct Answer {
        status: Status,
    }

    #[derive(Debug, PartialEq, zlink::ReplyError, zlink::introspect::ReplyError)]
    #[zlink(interface = "org.bulkhead.Zones")]
    enum Failure {
        UnknownZone { zone: String },
        NotRunning { zone: String },
        Refused { reason: String },
    }

    #[zlink::proxy("org.bulkhead.Zones")]
    trait Zones {
        async fn status(&mut self) -> zlink::Result<Result<Answer, Failure>>;
        async fn start(&mut self, zone: &str) -> zlink::Result<Result<(), Failure>>;
    }

    #[test]
    fn an_independent_client_understands_the_daemon() {
        let mut world = World::new("zlink");
        let socket = world.socket.clone();
        let client = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let mut connection = zlink::tokio::unix::connect(socket.to_str().unwrap()).await.unwrap();
                let answer = connection.status().await.unwrap().unwrap();
                assert_eq!(answer.status.zones.len(), 2);
                let failure = connection.start("nowhere").await.unwrap().unwrap_err();
                assert_eq!(failure, Failure::UnknownZone { zone: "nowhere".to_owned() });
                connection.start("vault").await.unwrap().unwrap();
            });
        });
        assert_eq!(INTERFACE, "org.bulkhead.Zones");
        while !client.is_finished() {
            world.daemon.turn(Some(Duration::from_millis(20))).unwrap();
            world.keep();
        }
        client.join().unwrap();
        world.check_state(1, Phase::Starting, None);
    }
}
