//! Named stories, and random operations with invariants after each.

use proptest::prelude::*;

use super::*;

struct Story {
    zone: Lifecycle,
    now: Instant,
}

impl Story {
    fn new(has_vpnd: bool) -> Self {
        let now = Instant::now();
        Self { zone: Lifecycle::new(has_vpnd, now), now }
    }

    /// Nothing happens until the next deadline.
    fn late(&mut self) -> Vec<Action> {
        self.now = self.zone.deadline().unwrap();
        self.on(Event::Tick)
    }

    /// Takes one event. A virtual TPM that is to be killed is gone at once here: the stories about it use
    /// [`Story::alone`].
    fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.alone(event);
        let tpm = Action::Kill(Role::Tpm);
        while let Some(place) = actions.iter().position(|action| *action == tpm) {
            actions.remove(place);
            actions.extend(self.alone(Event::Exited(Role::Tpm, KILLED)));
        }
        let mut once = Vec::new();
        for action in actions {
            if !once.contains(&action) {
                once.push(action);
            }
        }
        once
    }

    fn alone(&mut self, event: Event) -> Vec<Action> {
        self.zone.handle(event, self.now).unwrap()
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.on(Event::Tick)
    }

    fn check(&self, phase: Phase, reason: Option<&str>) {
        let view = self.zone.view();
        assert_eq!((view.phase, view.reason.as_deref()), (phase, reason));
    }

    fn running(has_vpnd: bool) -> Self {
        let mut story = Self::new(has_vpnd);
        assert_eq!(story.on(Event::Start), [Action::Launch]);
        story.check(Phase::Starting, None);
        assert_eq!(story.on(Event::Hello("1".into())), []);
        story.check(Phase::Running, None);
        story
    }
}

const NO_HELLO: &str = "The zone's agent did not answer within 180 seconds of the start.";

#[test]
fn a_zone_stops_when_asked() {
    let mut story = Story::running(true);
    assert_eq!(story.on(Event::Stop), [Action::AskAgent]);
    assert_eq!(story.zone.handle(Event::Start, story.now), Err(Refusal::Stopping));
    story.on(Event::Ended(End::ShutDown));
    assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Code(0))), [Action::Kill(Role::Vpnd)]);
    story.check(Phase::Stopping, None);
    assert_eq!(story.on(Event::Exited(Role::Vpnd, ExitCause::Signal(9))), [Action::Release]);
    story.check(Phase::Stopped, None);
    assert_eq!(story.zone.handle(Event::Stop, story.now), Err(Refusal::NotRunning));
}

#[test]
fn a_silent_agent_is_insisted_upon() {
    let mut story = Story::running(false);
    story.on(Event::Stop);
    assert_eq!(story.after(ASK_PATIENCE - Duration::from_secs(1)), []);
    assert_eq!(story.on(Event::Hello("1".into())), [Action::AskAgent]);
    assert_eq!(story.after(Duration::from_secs(1)), [Action::Tell(Command::Kill)]);
    assert_eq!(story.after(KILL_PATIENCE), [Action::Kill(Role::Vmm)]);
    assert_eq!(story.after(KILL_PATIENCE), [Action::Kill(Role::Vmm)]);
    assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Signal(9))), [Action::Release]);
    story.check(Phase::Stopped, None);
}

#[test]
fn ends_have_their_reasons() {
    let cases = [
        (End::ShutDown, Phase::Stopped, "The guest shut itself down."),
        (End::Panic, Phase::Failed, "The guest's kernel panicked."),
        (End::Failed("triple fault".into()), Phase::Failed, "The virtual machine failed: triple fault."),
    ];
    for (end, phase, reason) in cases {
        let mut story = Story::running(false);
        story.on(Event::Ended(end));
        story.check(Phase::Stopping, None);
        assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Code(0))), [Action::Release]);
        story.check(phase, Some(reason));
        assert_eq!(story.on(Event::Start), [Action::Launch]);
    }
}

#[test]
fn a_dead_machine_process_fails_the_zone() {
    let cases = [
        (ExitCause::Signal(9), "The zone's virtual machine process was killed by signal 9."),
        (ExitCause::ForbiddenSystemCall, "The zone's virtual machine process made a forbidden system call."),
        (ExitCause::Code(1), "The zone's virtual machine process ended with code 1."),
    ];
    for (cause, reason) in cases {
        let mut story = Story::running(true);
        assert_eq!(story.on(Event::Exited(Role::Vmm, cause)), [Action::Kill(Role::Vpnd)]);
        story.on(Event::Exited(Role::Vpnd, ExitCause::Signal(9)));
        story.check(Phase::Failed, Some(reason));
    }
}

const KILLED: ExitCause = ExitCause::Signal(9);

fn notice(role: Role, text: &str) -> Action {
    Action::Notice(role, text.to_owned())
}

#[test]
fn a_dead_tunnel_comes_back_within_limits() {
    let mut story = Story::running(true);
    for wait in [200, 400, 800, 1600, 3200] {
        let told = notice(Role::Vpnd, "the tunnel process was killed by signal 9. It is started again.");
        assert_eq!(story.on(Event::Exited(Role::Vpnd, KILLED)), [told]);
        story.check(Phase::Running, None);
        let reason = "The tunnel process was killed by signal 9. The tunnel is restarting.";
        assert_eq!(story.zone.tunnel_reason().as_deref(), Some(reason));
        assert_eq!(story.after(Duration::from_millis(wait - 1)), []);
        assert_eq!(story.after(Duration::from_millis(1)), [Action::LaunchVpnd]);
        assert_eq!(story.zone.tunnel_reason().as_deref(), Some(reason));
        assert_eq!(story.on(Event::TunnelUp), []);
        assert_eq!(story.zone.tunnel_reason(), None);
    }
    let told = "the tunnel process was killed by signal 9, again and again. The zone runs on without network until \
                it is restarted.";
    assert_eq!(story.on(Event::Exited(Role::Vpnd, KILLED)), [notice(Role::Vpnd, told)]);
    assert_eq!(story.zone.deadline(), None);
    assert!(story.zone.tunnel_reason().unwrap().contains("has no network until it is restarted"));
    story.check(Phase::Running, None);
    // A restart of the zone begins anew.
    story.on(Event::Restart);
    story.on(Event::Ended(End::ShutDown));
    let actions = story.on(Event::Exited(Role::Vmm, ExitCause::Code(0)));
    assert_eq!(actions, [Action::Release, Action::Launch]);
    assert_eq!(story.zone.tunnel_reason(), None);
}

#[test]
fn a_tunnel_that_is_not_started_again_counts_as_dead() {
    let mut story = Story::running(true);
    story.on(Event::Exited(Role::Vpnd, KILLED));
    story.after(Duration::from_secs(1));
    let told = "the tunnel process was not started by the host: no. It is started again.";
    assert_eq!(story.on(Event::Refused(Role::Vpnd, "no".into())), [notice(Role::Vpnd, told)]);
    assert_eq!(story.after(Duration::from_secs(1)), [Action::LaunchVpnd]);
    let told = "the tunnel process could not be started: no sockets. It is started again.";
    assert_eq!(story.on(Event::VpndFailed("no sockets".into())), [notice(Role::Vpnd, told)]);
    story.check(Phase::Running, None);
}

#[test]
fn a_tunnel_that_hung_up_is_killed_and_comes_back() {
    let mut story = Story::running(true);
    story.on(Event::NetworkLost);
    assert_eq!(story.after(HANG_UP_PATIENCE), [Action::Kill(Role::Vpnd)]);
    assert_eq!(story.after(HANG_UP_PATIENCE), []);
    let told = notice(Role::Vpnd, "the tunnel process hung up. It is started again.");
    assert_eq!(story.on(Event::Exited(Role::Vpnd, KILLED)), [told]);
    assert_eq!(story.after(Duration::from_secs(1)), [Action::LaunchVpnd]);
}

#[test]
fn an_end_starts_no_tunnel() {
    let mut story = Story::running(true);
    story.on(Event::Exited(Role::Vpnd, KILLED));
    story.on(Event::Stop);
    assert_eq!(story.after(Duration::from_secs(10)), []);
    story.on(Event::Ended(End::ShutDown));
    assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Code(0))), [Action::Release]);
    story.check(Phase::Stopped, None);
}

#[test]
fn a_zone_pauses_and_goes_on() {
    let mut story = Story::running(false);
    assert_eq!(story.on(Event::Pause), [Action::Tell(Command::Pause)]);
    story.check(Phase::Running, None);
    assert_eq!(story.zone.handle(Event::Pause, story.now), Err(Refusal::Paused));
    story.on(Event::Paused);
    story.check(Phase::Paused, None);
    assert_eq!(story.zone.deadline(), None);
    assert_eq!(story.zone.handle(Event::Start, story.now), Err(Refusal::Paused));
    assert_eq!(story.on(Event::Resume), [Action::Tell(Command::Resume)]);
    story.check(Phase::Paused, None);
    // The answer to an order that was taken back.
    story.on(Event::Paused);
    story.on(Event::Resumed);
    story.check(Phase::Running, None);
    assert_eq!(story.zone.handle(Event::Resume, story.now), Err(Refusal::Running));
    // A guest that stands still cannot shut down.
    story.on(Event::Pause);
    story.on(Event::Paused);
    assert_eq!(story.on(Event::Stop), [Action::Tell(Command::Resume), Action::AskAgent]);
    assert_eq!(story.zone.handle(Event::Pause, story.now), Err(Refusal::Stopping));
}

#[test]
fn a_machine_that_does_not_pause_loses_nothing() {
    let mut story = Story::running(false);
    story.on(Event::Pause);
    let told = notice(Role::Vmm, "it did not pause within 5 seconds and runs on.");
    assert_eq!(story.after(PAUSE_PATIENCE), [told]);
    story.check(Phase::Running, None);
    story.on(Event::Paused);
    story.check(Phase::Paused, None);
    story.on(Event::Resume);
    let told = notice(Role::Vmm, "it did not go on within 5 seconds and stays paused.");
    assert_eq!(story.after(PAUSE_PATIENCE), [told]);
    story.check(Phase::Paused, None);
}

#[test]
fn a_kill_asks_nobody_and_a_restart_comes_back() {
    let mut story = Story::running(false);
    assert_eq!(story.on(Event::Kill), [Action::Kill(Role::Vmm)]);
    assert_eq!(story.on(Event::Exited(Role::Vmm, KILLED)), [Action::Release]);
    story.check(Phase::Stopped, None);
    assert_eq!(story.zone.handle(Event::Kill, story.now), Err(Refusal::NotRunning));
    assert_eq!(story.on(Event::Restart), [Action::Launch]);
    assert_eq!(story.zone.handle(Event::Start, story.now), Err(Refusal::Starting));
    assert_eq!(story.zone.handle(Event::Pause, story.now), Err(Refusal::NotRunning));
    story.on(Event::Hello("1".into()));
    assert_eq!(story.zone.handle(Event::Start, story.now), Err(Refusal::Running));
    assert_eq!(story.on(Event::Restart), [Action::AskAgent]);
    assert_eq!(story.on(Event::Kill), [Action::Kill(Role::Vmm)]);
    assert_eq!(story.on(Event::Exited(Role::Vmm, KILLED)), [Action::Release]);
    story.check(Phase::Stopped, None);
}

#[test]
fn a_lost_agent_is_told_until_it_is_back() {
    let mut story = Story::running(false);
    story.on(Event::AgentLost);
    story.check(Phase::Running, Some("The zone's agent hung up; the zone itself goes on."));
    story.on(Event::Hello("2".into()));
    story.check(Phase::Running, None);
}

#[test]
fn a_zone_without_hello_fails() {
    let mut story = Story::new(false);
    story.on(Event::Start);
    assert_eq!(story.after(START_PATIENCE), [Action::Kill(Role::Vmm)]);
    story.on(Event::Exited(Role::Vmm, ExitCause::Signal(9)));
    story.check(Phase::Failed, Some(NO_HELLO));
}

#[test]
fn a_launch_that_fails_leaves_nothing() {
    let mut story = Story::new(true);
    story.on(Event::Start);
    assert_eq!(story.on(Event::LaunchFailed("The disk is full.".into())), [Action::Release]);
    story.check(Phase::Failed, Some("The disk is full."));
    story.on(Event::Start);
    let refused = Event::Refused(Role::Vpnd, "no such profile".into());
    assert_eq!(story.on(refused), [Action::Kill(Role::Vmm)]);
    story.on(Event::Exited(Role::Vmm, ExitCause::Signal(9)));
    story.check(Phase::Failed, Some("The host did not start the zone's tunnel process: no such profile."));
}

#[test]
fn a_reset_is_a_start_but_not_for_ever() {
    let mut story = Story::running(false);
    assert_eq!(story.on(Event::Booted), []);
    for _ in 0..100 {
        assert_eq!(story.on(Event::Booted), [Action::DropAgent]);
        story.check(Phase::Starting, None);
        story.on(Event::Hello("1".into()));
        story.check(Phase::Running, None);
    }
    // Without the agent in between it is a loop.
    for _ in 0..MAX_RESETS {
        assert_eq!(story.on(Event::Booted), [Action::DropAgent]);
    }
    assert_eq!(story.on(Event::Booted), [Action::Kill(Role::Vmm)]);
    story.on(Event::Exited(Role::Vmm, KILLED));
    story.check(Phase::Failed, Some("The guest resets itself again and again."));
}

#[test]
fn a_machine_waits_for_its_tpm_at_each_start() {
    let mut story = Story::new(false);
    story.on(Event::Start);
    assert!(!story.zone.waits_for_tpm());
    assert_eq!(story.on(Event::TpmWanted), [Action::BeginTpm]);
    assert!(story.zone.waits_for_tpm());
    story.on(Event::Booted);
    assert!(!story.zone.waits_for_tpm());
    story.on(Event::Hello("1".into()));
    // The guest reset itself: its agent is gone at once, and the next zoned asks again.
    assert_eq!(story.on(Event::TpmWanted), [Action::DropAgent, Action::BeginTpm]);
    story.check(Phase::Starting, None);
    let saved = story.zone.save().unwrap();
    assert!(Lifecycle::restore(saved, false, story.now).waits_for_tpm());
    story.on(Event::Booted);
    assert_eq!(story.zone.resets, 1);
    story.on(Event::Hello("1".into()));
    story.on(Event::Stop);
    assert_eq!(story.on(Event::TpmWanted), [Action::Tell(Command::Kill)]);
}

#[test]
fn a_zone_does_not_outlive_its_tpm() {
    let mut story = Story::running(true);
    let kills = [Action::Kill(Role::Vmm), Action::Kill(Role::Vpnd)];
    assert_eq!(story.alone(Event::Exited(Role::Tpm, KILLED)), kills);
    story.on(Event::Exited(Role::Vmm, KILLED));
    assert_eq!(story.on(Event::Exited(Role::Vpnd, KILLED)), [Action::Release]);
    story.check(Phase::Failed, Some("The zone's virtual TPM was killed by signal 9."));

    let mut story = Story::new(false);
    story.on(Event::Start);
    let kills = [Action::Kill(Role::Vmm), Action::Kill(Role::Tpm)];
    assert_eq!(story.alone(Event::TpmFailed("answered INIT with 0x9".into())), kills);
    assert_eq!(story.alone(Event::Exited(Role::Vmm, KILLED)), [Action::Kill(Role::Tpm)]);
    assert_eq!(story.alone(Event::Exited(Role::Tpm, KILLED)), [Action::Release]);
    story.check(Phase::Failed, Some("The zone's virtual TPM answered INIT with 0x9."));

    story.on(Event::Start);
    story.alone(Event::Refused(Role::Tpm, "keeper does not run".into()));
    story.on(Event::Exited(Role::Vmm, KILLED));
    let reason = "The host did not start the zone's virtual TPM: keeper does not run.";
    story.check(Phase::Failed, Some(reason));
}

#[test]
fn a_guest_that_resets_itself_when_asked_to_end_ends() {
    let mut story = Story::running(false);
    story.on(Event::Booted);
    story.on(Event::Stop);
    assert_eq!(story.on(Event::Booted), [Action::Tell(Command::Kill)]);
    story.on(Event::Ended(End::Failed("killed on request".into())));
    assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Code(0))), [Action::Release]);
    story.check(Phase::Stopped, None);
}

#[test]
fn a_stop_takes_back_a_restart() {
    let mut story = Story::running(false);
    story.on(Event::Restart);
    story.on(Event::Stop);
    story.on(Event::Ended(End::ShutDown));
    assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Code(0))), [Action::Release]);
    story.check(Phase::Stopped, None);
}

#[test]
fn a_zone_goes_on_under_the_next_zoned() {
    let mut story = Story::running(true);
    story.on(Event::Booted);
    story.on(Event::Pause);
    story.on(Event::Paused);
    let saved = story.zone.save().unwrap();
    let mut next = Story { zone: Lifecycle::restore(saved.clone(), true, story.now), now: story.now };
    assert_eq!(next.zone.save(), Some(saved));
    next.check(Phase::Paused, None);
    assert_eq!(next.on(Event::Resume), [Action::Tell(Command::Resume)]);
    next.on(Event::Resumed);
    // Its agent is awaited: it connects again.
    next.check(Phase::Running, Some("The zone's agent hung up; the zone itself goes on."));
    next.on(Event::Hello("1".into()));
    next.check(Phase::Running, None);
    assert_eq!(next.on(Event::Booted), [Action::DropAgent]);
    assert_eq!(Story::new(true).zone.save(), None);
}

#[test]
fn a_guest_that_begins_anew_is_not_locked_and_its_user_is_told() {
    let mut story = Story::running(false);
    story.on(Event::Booted);
    assert_eq!(story.on(Event::Lock), [Action::SyncAgent]);
    let actions = story.on(Event::TpmWanted);
    let told = "it was not locked: it began anew meanwhile.".to_owned();
    assert_eq!(actions, [Action::DropAgent, Action::Notice(Role::Vmm, told), Action::BeginTpm]);
    story.check(Phase::Starting, None);
}

#[test]
fn every_step_to_the_lock_has_its_time() {
    let mut story = Story::running(false);
    assert_eq!(story.on(Event::Lock), [Action::SyncAgent]);
    let [Action::Tell(Command::Pause), Action::Notice(Role::Vmm, told)] = &story.late()[..] else { panic!() };
    assert!(told.contains("locked all the same"), "{told}");
    // The VMM does not answer: the zone runs on.
    let told = "it was not locked: it did not stand still within 5 seconds.".to_owned();
    assert_eq!(story.late(), [Action::Notice(Role::Vmm, told)]);
    story.check(Phase::Running, None);
    // Held zones are locked as they are; whoever was asked to forget the key is asked again.
    story.on(Event::Pause);
    story.on(Event::Paused);
    assert_eq!(story.on(Event::Lock), [Action::LockDisk]);
    assert_eq!(story.late(), [Action::LockDisk]);
    assert_eq!(story.on(Event::Closed(None)), []);
    story.check(Phase::Locked, None);
    assert_eq!(story.on(Event::Unlock), [Action::UnlockDisk]);
    let told = "it stays locked: the host did not answer in time.".to_owned();
    assert_eq!(story.late(), [Action::Notice(Role::Vmm, told)]);
    story.check(Phase::Locked, None);
}

fn any_event() -> impl Strategy<Value = Event> {
    let role = prop_oneof![Just(Role::Vmm), Just(Role::Vpnd), Just(Role::Tpm)];
    let cause = prop_oneof![
        Just(ExitCause::Code(0)),
        Just(ExitCause::Signal(9)),
        Just(ExitCause::ForbiddenSystemCall)
    ];
    let end = prop_oneof![
        Just(End::ShutDown),
        Just(End::Reset),
        Just(End::Panic),
        Just(End::Failed("x".to_owned()))
    ];
    prop_oneof![
        3 => Just(Event::Start),
        2 => Just(Event::Stop),
        1 => Just(Event::Kill),
        1 => Just(Event::Restart),
        2 => Just(Event::Pause),
        2 => Just(Event::Resume),
        2 => Just(Event::Booted),
        2 => Just(Event::TpmWanted),
        1 => Just(Event::TpmFailed("x".to_owned())),
        4 => Just(Event::Lock),
        2 => Just(Event::Synced),
        3 => Just(Event::Closed(None)),
        1 => Just(Event::Closed(Some("x".to_owned()))),
        2 => Just(Event::Unlock),
        2 => Just(Event::Unlocked(None)),
        1 => Just(Event::Unlocked(Some("x".to_owned()))),
        2 => Just(Event::Paused),
        2 => Just(Event::Resumed),
        1 => Just(Event::NetworkLost),
        1 => Just(Event::TunnelUp),
        1 => Just(Event::AgentLost),
        1 => Just(Event::VpndFailed("x".to_owned())),
        1 => Just(Event::LaunchFailed("x".to_owned())),
        1 => role.clone().prop_map(|role| Event::Refused(role, "x".to_owned())),
        3 => (role, cause).prop_map(|(role, cause)| Event::Exited(role, cause)),
        2 => end.prop_map(Event::Ended),
        3 => Just(Event::Hello("1".to_owned())),
        3 => Just(Event::Tick),
    ]
}

/// What the shell knows without asking the machine: which processes were asked for and are not gone.
#[derive(Default)]
struct Shadow {
    vmm: bool,
    vpnd: bool,
    tpm: bool,
    held: bool,
}

impl Shadow {
    /// Drops what cannot happen in the real world: news of a process that is not there.
    fn possible(&self, event: &Event) -> bool {
        match event {
            Event::Refused(role, _) | Event::Exited(role, _) => match role {
                Role::Vmm => self.vmm,
                Role::Vpnd => self.vpnd,
                Role::Tpm => self.tpm,
            },
            Event::Ended(_)
            | Event::Hello(_)
            | Event::AgentLost
            | Event::Booted
            | Event::TpmWanted
            | Event::TpmFailed(_)
            | Event::DiskRefused(_)
            | Event::Paused
            | Event::Resumed
            | Event::Synced
            | Event::Closed(_)
            | Event::Unlock
            | Event::Unlocked(_)
            | Event::NetworkLost => self.vmm,
            Event::TunnelUp => self.vpnd,
            // Only in answer to an action, where the test gives it.
            Event::LaunchFailed(_) | Event::VpndFailed(_) => false,
            Event::Start
            | Event::Stop
            | Event::Kill
            | Event::Restart
            | Event::Pause
            | Event::Resume
            | Event::Lock
            | Event::Tick => true,
        }
    }

    fn event(&mut self, event: &Event) {
        if let Event::Refused(role, _) | Event::Exited(role, _) = event {
            match role {
                Role::Vmm => self.vmm = false,
                Role::Vpnd => self.vpnd = false,
                Role::Tpm => self.tpm = false,
            }
        }
    }

    fn action(&mut self, action: &Action, has_vpnd: bool) {
        match action {
            Action::Launch => {
                let left = self.vmm || self.vpnd || self.tpm || self.held;
                assert!(!left, "a start met an earlier start's process");
                (self.vmm, self.vpnd, self.tpm, self.held) = (true, has_vpnd, true, true);
            }
            Action::Kill(Role::Vmm) => assert!(self.vmm),
            Action::Kill(Role::Vpnd) => assert!(self.vpnd),
            Action::Kill(Role::Tpm) => assert!(self.tpm),
            Action::BeginTpm => assert!(self.vmm && self.held),
            Action::Release => {
                assert!(!self.vmm && !self.vpnd && !self.tpm && self.held);
                self.held = false;
            }
            Action::LaunchVpnd => {
                assert!(self.vmm && !self.vpnd && has_vpnd, "a tunnel process met an earlier one");
                self.vpnd = true;
            }
            Action::Tell(_) => assert!(self.vmm),
            Action::LockDisk | Action::UnlockDisk => assert!(self.vmm),
            Action::AskAgent | Action::SyncAgent | Action::DropAgent | Action::Notice(..) => {
                assert!(self.held);
            }
        }
    }
}

/// Whether a wait is under way that the next `zoned` begins anew.
fn zone_waits(zone: &Lifecycle) -> bool {
    let hung_up = matches!(zone.vpnd, Vpnd::Lives { hung_up: HungUp::Since { .. }, .. });
    let own = match zone.state {
        // The next one has its user open it once more.
        State::Up { mode: Mode::Runs | Mode::Paused | Mode::Locked | Mode::Opening { .. }, .. } => {
            matches!(zone.vpnd, Vpnd::Waits { .. })
        }
        State::Up { .. }
        | State::Stopped { .. }
        | State::Starting { .. }
        | State::Stopping { .. }
        | State::Failed { .. } => true,
    };
    assert!(!hung_up || zone.deadline().is_some());
    own
}

fn assert_invariants(zone: &Lifecycle, shadow: &Shadow, now: Instant) {
    let alive = [Role::Vmm, Role::Vpnd, Role::Tpm].map(|role| zone.alive(role));
    assert_eq!(alive, [shadow.vmm, shadow.vpnd, shadow.tpm]);
    let view = zone.view();
    match view.phase {
        Phase::Stopped | Phase::Failed => {
            assert!(!shadow.vmm && !shadow.vpnd && !shadow.tpm && !shadow.held && zone.deadline().is_none());
        }
        Phase::Starting => assert!(shadow.vmm && shadow.tpm && zone.deadline().is_some()),
        Phase::Running | Phase::Paused | Phase::Locked => assert!(shadow.vmm && shadow.tpm),
        Phase::Locking => assert!(shadow.vmm && shadow.tpm && zone.deadline().is_some()),
        Phase::Stopping => {
            assert!((shadow.vmm || shadow.vpnd || shadow.tpm) && zone.deadline().is_some());
        }
    }
    let up = matches!(view.phase, Phase::Running | Phase::Paused | Phase::Locking | Phase::Locked);
    assert_eq!(view.agent.is_some(), up);
    // Whatever the state, the next zoned goes on in the same one, or there is nothing to go on with.
    let saved = zone.save();
    assert_eq!(saved.is_some(), shadow.held);
    if let Some(saved) = saved {
        let next = Lifecycle::restore(saved.clone(), zone.has_vpnd, now);
        assert_eq!(next.view().phase, view.phase);
        assert_eq!((next.save(), next.deadline().is_some()), (Some(saved), zone_waits(zone)));
    }
    assert!(view.phase != Phase::Failed || view.reason.is_some());
    assert!(zone.resets <= MAX_RESETS);
    if let Some(deadline) = zone.deadline() {
        assert!(deadline <= now + START_PATIENCE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn property_random_operations_keep_the_invariants(
        has_vpnd: bool,
        operations in prop::collection::vec((any_event(), 0_u64..20), 1..120),
    ) {
        let mut now = Instant::now();
        let mut zone = Lifecycle::new(has_vpnd, now);
        let mut shadow = Shadow::default();
        for (event, seconds) in operations {
            now += Duration::from_secs(seconds);
            // An earlier Launch may fail instead of anything else, while nothing was asked for yet.
            if let Event::LaunchFailed(_) = &event
                && zone.view().phase == Phase::Stopped
            {
                let actions = zone.handle(Event::Start, now).unwrap();
                prop_assert_eq!(actions, [Action::Launch]);
                let actions = zone.handle(event, now).unwrap();
                prop_assert_eq!(actions, [Action::Release]);
                assert_invariants(&zone, &shadow, now);
                continue;
            }
            if !shadow.possible(&event) {
                continue;
            }
            shadow.event(&event);
            let fails = matches!(seconds % 3, 0);
            let (locked, opens) = (zone.view().phase == Phase::Locked, event == Event::Unlocked(None));
            for action in zone.handle(event, now).unwrap_or_default() {
                shadow.action(&action, has_vpnd);
                prop_assert!(!locked || opens || action != Action::Tell(Command::Resume), "it runs without its disk");
                if action == Action::LaunchVpnd && fails {
                    shadow.vpnd = false;
                    for action in zone.handle(Event::VpndFailed("x".to_owned()), now).unwrap() {
                        shadow.action(&action, has_vpnd);
                    }
                }
            }
            assert_invariants(&zone, &shadow, now);
        }
        // Whatever happened: a stop and patience end every zone.
        drop(zone.handle(Event::Stop, now));
        for _ in 0..10 {
            let Some(deadline) = zone.deadline() else { break };
            now = now.max(deadline);
            for action in zone.handle(Event::Tick, now).unwrap() {
                shadow.action(&action, has_vpnd);
                if let Action::Kill(role) = action {
                    let gone = Event::Exited(role, ExitCause::Signal(9));
                    shadow.event(&gone);
                    for action in zone.handle(gone, now).unwrap() {
                        shadow.action(&action, has_vpnd);
                    }
                }
            }
            assert_invariants(&zone, &shadow, now);
        }
        prop_assert!(matches!(zone.view().phase, Phase::Stopped | Phase::Failed));
    }
}
