//! The fake world around the daemon: everything that it speaks to, at the other ends of its descriptors.

use zone_protocol::keeper::{
    Cause, Digits, Factor, FromKeeper, PinState, Purpose, Recovery, RecoveryAnswer, ToKeeper,
};

use super::*;

/// State, names and descriptors.
pub(super) type Stored = (Vec<u8>, Vec<String>, Vec<OwnedFd>);

pub(super) struct World {
    pub(super) daemon: Daemon,
    pub(super) init: Channel,
    pub(super) uplink: Channel,
    pub(super) keeper: Channel,
    /// What `keeper` was asked beside openings, which it grants.
    pub(super) asked: VecDeque<ToKeeper>,
    /// It does not answer openings.
    pub(super) silent: bool,
    /// How `keeper` answers an opening that it does not grant, and what it was asked.
    pub(super) refuses: Option<(Cause, PinState)>,
    pub(super) openings: Vec<(String, Factor, Option<Digits>)>,
    pub(super) recoveries: Vec<Digits>,
    /// What each opening was for.
    pub(super) purposes: Vec<Purpose>,
    /// The zones' virtual TPMs that were asked for and are not gone, with their slots.
    pub(super) tpms: BTreeMap<u32, u8>,
    pub(super) orders: VecDeque<(Request, Vec<OwnedFd>)>,
    pub(super) socket: PathBuf,
    pub(super) data: Data,
    /// What the daemon keeps with `init`.
    pub(super) audit_file: OwnedFd,
    pub(super) stored: BTreeMap<u8, Stored>,
}

/// A process that `init` was asked for.
pub(super) struct Process {
    pub(super) number: u32,
    pub(super) descriptors: BTreeMap<String, OwnedFd>,
}

impl Process {
    pub(super) fn channel(&mut self, name: &str) -> Channel {
        Channel::from_descriptor(self.descriptors.remove(name).unwrap())
    }
}

/// A running zone's fake ends.
pub(super) struct Running {
    pub(super) vmm: Process,
    pub(super) vpnd: Option<Process>,
    pub(super) events: Channel,
    pub(super) agent: OwnedFd,
}

impl World {
    pub(super) fn new(name: &str) -> Self {
        Self::with_policy(name, POLICY)
    }

    pub(super) fn with_policy(name: &str, policy: &str) -> Self {
        let data = Data::new(name);
        let paths = Paths {
            policy: data.0.join("policy.toml"),
            demo_keys: data.0.join("demo-keys.toml"),
            template_rules: data.0.join("rules.toml"),
            firmware: data.0.join(FIRMWARE),
            data: data.0.clone(),
        };
        fs::write(&paths.policy, policy).unwrap();
        let keys = "[tunnel]\noffice = \"+HupjgxflAYEZ9b/xtBVo4OLkxF1qK3A64ksYSPCuVo=\"\n";
        fs::write(&paths.demo_keys, keys).unwrap();
        let socket = data.0.join("varlink");
        let varlink = UnixListener::bind(&socket).unwrap().into();
        let (init, their_init) = Channel::pair().unwrap();
        let (uplink, their_uplink) = Channel::pair().unwrap();
        init.set_nonblocking().unwrap();
        uplink.set_nonblocking().unwrap();
        let (keeper, their_keeper) = Channel::pair().unwrap();
        keeper.set_nonblocking().unwrap();
        init.send(&InitEvent::HandedOver, &[]).unwrap();
        let meminfo = fs::File::open("/proc/meminfo").unwrap().into();
        let audit_file = crate::audit::tests::file();
        let audit = Some(audit_file.try_clone().unwrap());
        let (init_end, uplink_end, keeper_end) = (their_init, their_uplink, their_keeper);
        let inherited =
            Inherited { init: init_end, uplink: uplink_end, keeper: keeper_end, varlink, meminfo, audit };
        let daemon = Daemon::new(paths, inherited, 100).unwrap();
        Self::around(daemon, (init, uplink, keeper), (socket, data, audit_file))
    }

    pub(super) fn around(
        daemon: Daemon,
        (init, uplink, keeper): (Channel, Channel, Channel),
        (socket, data, audit_file): (PathBuf, Data, OwnedFd),
    ) -> Self {
        Self {
            daemon,
            init,
            uplink,
            keeper,
            asked: VecDeque::new(),
            silent: false,
            refuses: None,
            openings: Vec::new(),
            recoveries: Vec::new(),
            purposes: Vec::new(),
            tpms: BTreeMap::new(),
            orders: VecDeque::new(),
            socket,
            data,
            stored: BTreeMap::new(),
            audit_file,
        }
    }

    /// What `keeper` is asked next, beside openings.
    pub(super) fn next_asked(&mut self) -> ToKeeper {
        self.asked.pop_front().unwrap()
    }

    /// What `keeper` knows of a zone.
    pub(super) fn tell_pin(&mut self, slot: u8, pin: PinState) {
        self.keeper.send(&FromKeeper::Pin { slot, pin }, &[]).unwrap();
        self.settle();
    }

    /// Does what `keeper` is asked; whether there was something to answer.
    pub(super) fn keep(&mut self) -> bool {
        let mut answered = false;
        while let Ok((asked, _)) = self.keeper.receive::<ToKeeper>() {
            match asked {
                ToKeeper::AskPin { .. } | ToKeeper::AskRecovery => {}
                ToKeeper::NewRecoveryKey { number } => {
                    let answer = RecoveryAnswer::Key(Digits("000011".to_owned().into()));
                    let told = FromKeeper::Recovery { number, state: Recovery::Shown, answer };
                    self.keeper.send(&told, &[]).unwrap();
                    answered = true;
                }
                ToKeeper::NoteRecoveryKey { number, key: Digits(key) } => {
                    let (state, answer) = match key.as_str() {
                        "000011" => (Recovery::Noted, RecoveryAnswer::Noted),
                        _ => (Recovery::Shown, RecoveryAnswer::Refused("Another one.".to_owned())),
                    };
                    self.keeper.send(&FromKeeper::Recovery { number, state, answer }, &[]).unwrap();
                    answered = true;
                }
                ToKeeper::Open { slot, number, zone, factor, pin: typed, purpose, recovery } => {
                    let tunnel = purpose == Purpose::Start { tunnel: true };
                    self.purposes.push(purpose);
                    self.recoveries.extend(recovery);
                    self.openings.push((zone, factor, typed));
                    if self.silent {
                        continue;
                    }
                    let answer = match self.refuses {
                        Some((cause, pin)) => {
                            FromKeeper::NotOpened { slot, number, cause, reason: "No.".into(), pin }
                        }
                        None => {
                            let public_key = Some([9; 32]);
                            FromKeeper::Opened {
                                slot,
                                number,
                                pin: PinState { public_key, ..Default::default() },
                            }
                        }
                    };
                    let (key, into_key) = rustix::pipe::pipe().unwrap();
                    rustix::io::write(&into_key, &[8; 32]).unwrap();
                    let key = tunnel.then_some(key.as_fd());
                    self.keeper.send(&answer, key.as_slice()).unwrap();
                    answered = true;
                }
                other @ (ToKeeper::Begin { .. } | ToKeeper::Lock { .. }) => self.asked.push_back(other),
            }
        }
        answered
    }

    /// Lets the daemon do all that it has to do now.
    pub(super) fn settle(&mut self) {
        loop {
            for _ in 0..12 {
                self.daemon.turn(Some(Duration::ZERO)).unwrap();
            }
            let (ended, answered) = (self.collect(), self.keep());
            if !ended && !answered {
                return;
            }
        }
    }

    /// Takes what `init` is told. Virtual TPMs start and end as asked; whether one ended.
    pub(super) fn collect(&mut self) -> bool {
        let mut ended = false;
        while let Ok((request, given)) = self.init.receive::<Request>() {
            match request {
                Request::Spawn { process, profile: ZoneProfile::Swtpm, slot, .. } => {
                    assert!(given.is_empty());
                    self.tpms.insert(process, slot);
                }
                Request::Kill { process } if self.tpms.remove(&process).is_some() => {
                    let gone = InitEvent::Exited { process, cause: ExitCause::Signal(9) };
                    self.init.send(&gone, &[]).unwrap();
                    ended = true;
                }
                other @ (Request::Spawn { .. }
                | Request::Kill { .. }
                | Request::Limit { .. }
                | Request::OpenDisposable { .. }
                | Request::OpenPrivate { .. }
                | Request::CloseDisk { .. }
                | Request::LockDisk { .. }
                | Request::UnlockDisk { .. }
                | Request::Store { .. }
                | Request::Discard { .. }
                | Request::PowerOff) => self.orders.push_back((other, given)),
            }
        }
        ended
    }

    pub(super) fn call(&mut self, method: Method) -> Reply {
        let mut client = Client::connect(&self.socket).unwrap();
        client.begin(method).unwrap();
        self.settle();
        client.read_events().unwrap().remove(0)
    }

    pub(super) fn status(&mut self) -> Status {
        let Reply::Status(status) = self.call(Method::Status) else { panic!("no status") };
        status
    }

    pub(super) fn zone(&mut self, index: usize) -> control_api::Zone {
        self.status().zones.remove(index)
    }

    pub(super) fn check_state(&mut self, index: usize, phase: Phase, reason: Option<&str>) {
        let state = self.zone(index).state;
        assert_eq!((state.phase, state.reason.as_deref()), (phase, reason));
    }

    /// What `init` is told, beside limits, what it keeps, and virtual TPMs.
    pub(super) fn next_order(&mut self) -> Result<(Request, Vec<OwnedFd>), ReceiveError> {
        loop {
            self.collect();
            match self.orders.pop_front().ok_or(ReceiveError::WouldBlock)? {
                (Request::Limit { memory_mib, .. }, _) => assert_eq!(memory_mib, 64),
                (Request::Store { slot, state, names }, descriptors) => {
                    assert_eq!(names.len(), descriptors.len());
                    self.stored.insert(slot, (state, names, descriptors));
                }
                (Request::Discard { slot }, _) => assert!(self.stored.remove(&slot).is_some()),
                other => return Ok(other),
            }
        }
    }

    pub(super) fn next_spawn(&mut self, expected: ZoneProfile, expected_slot: u8) -> Process {
        let (request, descriptors) = self.next_order().unwrap();
        let Request::Spawn { process, profile, slot, zone, descriptors: names } = request else {
            panic!("{request:?}")
        };
        assert_eq!((profile, slot), (expected, expected_slot));
        assert_eq!(zone, ["office", "vault"][usize::from(slot)]);
        assert_eq!(names.len(), descriptors.len());
        Process { number: process, descriptors: names.into_iter().zip(descriptors).collect() }
    }

    pub(super) fn tell_init(&mut self, event: &InitEvent) {
        self.init.send(event, &[]).unwrap();
        self.settle();
    }

    pub(super) fn exited(&mut self, process: u32, cause: ExitCause) {
        self.tell_init(&InitEvent::Exited { process, cause });
    }

    /// Starts a zone and connects a fake agent.
    pub(super) fn run(&mut self, index: u8) -> Running {
        let name = ["office", "vault"][usize::from(index)].to_owned();
        assert_eq!(self.call(Method::Start(name)), Reply::Done);
        self.check_state(usize::from(index), Phase::Starting, None);
        let vpnd = (index == 0).then(|| self.next_spawn(ZoneProfile::Vpnd, index));
        let mut vmm = self.next_spawn(ZoneProfile::Vmm, index);
        let events = vmm.channel("events");
        events.set_nonblocking().unwrap();
        events.send(&VmmEvent::Started, &[]).unwrap();
        let agent = self.connect_agent(&vmm, PORT);
        let status = zone_protocol::agent::Status { protocol: VERSION, version: "0.1".into(), uptime_ms: 5 };
        rustix::io::write(&agent, &encode(&FromAgent::Hello(status)).unwrap()).unwrap();
        self.settle();
        let state = self.zone(usize::from(index)).state;
        assert_eq!((state.phase, state.agent.as_deref()), (Phase::Running, Some("0.1")));
        Running { vmm, vpnd, events, agent }
    }

    /// What the VMM does when the guest connects to a vsock port.
    pub(super) fn connect_agent(&mut self, vmm: &Process, port: u32) -> OwnedFd {
        let (guest, host) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let channel = Channel::from_descriptor(vmm.descriptors["agent"].try_clone().unwrap());
        channel.send(&Connected { port }, &[host.as_fd()]).unwrap();
        rustix::io::ioctl_fionbio(&guest, true).unwrap();
        self.settle();
        guest
    }

    pub(super) fn expect_kill(&mut self, process: u32) {
        let (request, _) = self.next_order().unwrap();
        assert_eq!(request, Request::Kill { process });
    }
}

pub(super) fn next_request(agent: &OwnedFd) -> AgentRequest {
    let mut bytes = [0; 4096];
    let count = rustix::io::read(agent, &mut bytes).unwrap();
    let mut decoder = Decoder::default();
    decoder.push(&bytes[..count]);
    decoder.next_message().unwrap().unwrap()
}

pub(super) fn last_notice(status: &Status) -> (&str, &str) {
    status.notices.last().map_or(("", ""), |notice| (&notice.process, &notice.text))
}
