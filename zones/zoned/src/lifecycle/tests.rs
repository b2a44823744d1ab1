//! Named stories, and random operations with invariants after each.

use proptest::prelude::*;

use super::*;

struct Story {
    zone: Lifecycle,
    now: Instant,
}

impl Story {
    fn new(has_vpnd: bool) -> Self {
        Self { zone: Lifecycle::new(has_vpnd), now: Instant::now() }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
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

const NO_HELLO: &str = "The zone's agent did not answer within 60 seconds of the start.";

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
    assert_eq!(story.after(Duration::from_secs(1)), [Action::TellVmm]);
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

#[test]
fn a_zone_survives_its_tunnel() {
    let mut story = Story::running(true);
    assert_eq!(story.on(Event::Exited(Role::Vpnd, ExitCause::Signal(9))), []);
    story.check(Phase::Running, None);
    story.on(Event::Stop);
    story.on(Event::Ended(End::ShutDown));
    assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Code(0))), [Action::Release]);
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
fn a_reset_restarts_but_not_for_ever() {
    let mut story = Story::running(false);
    for _ in 0..MAX_RESETS {
        story.on(Event::Ended(End::Reset));
        let actions = story.on(Event::Exited(Role::Vmm, ExitCause::Code(0)));
        assert_eq!(actions, [Action::Release, Action::Launch]);
        story.check(Phase::Starting, None);
    }
    story.on(Event::Ended(End::Reset));
    story.on(Event::Exited(Role::Vmm, ExitCause::Code(0)));
    story.check(Phase::Failed, Some("The guest resets itself again and again."));
}

#[test]
fn a_stop_takes_back_a_restart() {
    let mut story = Story::running(false);
    story.on(Event::Ended(End::Reset));
    story.on(Event::Stop);
    assert_eq!(story.on(Event::Exited(Role::Vmm, ExitCause::Code(0))), [Action::Release]);
    story.check(Phase::Stopped, None);
}

fn any_event() -> impl Strategy<Value = Event> {
    let role = prop_oneof![Just(Role::Vmm), Just(Role::Vpnd)];
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
    held: bool,
}

impl Shadow {
    /// Drops what cannot happen in the real world: news of a process that is not there.
    fn possible(&self, event: &Event) -> bool {
        match event {
            Event::Refused(role, _) | Event::Exited(role, _) => match role {
                Role::Vmm => self.vmm,
                Role::Vpnd => self.vpnd,
            },
            Event::Ended(_) | Event::Hello(_) => self.vmm,
            Event::LaunchFailed(_) => false,
            Event::Start | Event::Stop | Event::Tick => true,
        }
    }

    fn event(&mut self, event: &Event) {
        if let Event::Refused(role, _) | Event::Exited(role, _) = event {
            match role {
                Role::Vmm => self.vmm = false,
                Role::Vpnd => self.vpnd = false,
            }
        }
    }

    fn action(&mut self, action: &Action, has_vpnd: bool) {
        match action {
            Action::Launch => {
                assert!(!self.vmm && !self.vpnd && !self.held, "a start met an earlier start's process");
                (self.vmm, self.vpnd, self.held) = (true, has_vpnd, true);
            }
            Action::Kill(Role::Vmm) => assert!(self.vmm),
            Action::Kill(Role::Vpnd) => assert!(self.vpnd),
            Action::Release => {
                assert!(!self.vmm && !self.vpnd && self.held);
                self.held = false;
            }
            Action::AskAgent | Action::TellVmm => assert!(self.vmm),
        }
    }
}

fn assert_invariants(zone: &Lifecycle, shadow: &Shadow, now: Instant) {
    assert_eq!((zone.alive(Role::Vmm), zone.alive(Role::Vpnd)), (shadow.vmm, shadow.vpnd));
    let view = zone.view();
    match view.phase {
        Phase::Stopped | Phase::Failed => {
            assert!(!shadow.vmm && !shadow.vpnd && !shadow.held && zone.deadline().is_none());
        }
        Phase::Starting => assert!(shadow.vmm && zone.deadline().is_some()),
        Phase::Running => assert!(shadow.vmm && zone.deadline().is_none()),
        Phase::Stopping => assert!((shadow.vmm || shadow.vpnd) && zone.deadline().is_some()),
    }
    assert_eq!(view.agent.is_some(), view.phase == Phase::Running);
    assert!(view.phase != Phase::Failed || view.reason.is_some());
    assert!(zone.resets.len() <= MAX_RESETS);
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
        let mut zone = Lifecycle::new(has_vpnd);
        let mut shadow = Shadow::default();
        let mut now = Instant::now();
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
            for action in zone.handle(event, now).unwrap_or_default() {
                shadow.action(&action, has_vpnd);
            }
            assert_invariants(&zone, &shadow, now);
        }
        // Whatever happened: a stop and patience end every zone.
        drop(zone.handle(Event::Stop, now));
        for _ in 0..8 {
            let Some(deadline) = zone.deadline() else { break };
            now = deadline;
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
