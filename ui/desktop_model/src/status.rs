//! What `zoned` says, in the model's own words. `desktop` converts the wire types to these.

/// All that the picker shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The policy's name.
    pub policy: String,
    /// The policy is a demonstration.
    pub demo: bool,
    /// The NIC.
    pub uplink: Uplink,
    /// Zones in the policy's order.
    pub zones: Vec<Zone>,
    /// Whether there is a recovery key.
    pub recovery: Recovery,
    /// The display's lock.
    pub screen: Screen,
    /// What went wrong lately, newest last.
    pub notices: Vec<Notice>,
}

/// Whether there is a recovery key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// There is none.
    #[default]
    None,
    /// One was shown, and nobody has said that it was written down.
    Shown,
    /// It was written down.
    Noted,
}

/// The display's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// It is locked.
    pub locked: bool,
    /// What lifts the lock.
    pub login: Login,
}

/// The NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Cable or radio is connected.
    pub carrier: bool,
    /// The address from DHCP.
    pub address: Option<String>,
}

/// One zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name, by which actions call it.
    pub name: String,
    /// What the user reads.
    pub label: String,
    /// Its colour.
    pub colour: Colour,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it failed, or stopped unasked.
    pub reason: Option<String>,
    /// What opens it.
    pub login: Login,
    /// Its tunnel; `None`: the policy gives it no network.
    pub tunnel: Option<Tunnel>,
}

/// What opens a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// The touch alone.
    #[default]
    Touch,
    /// A PIN.
    Pin(PinLogin),
}

/// A zone's PIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinLogin {
    /// It was chosen; `false`: the first one that is given will be it.
    pub chosen: bool,
    /// The pad's digits change places at each use.
    pub shuffle: bool,
    /// Wrong ones until the zone is locked, if the machine's TPM said so; 0: it is.
    pub tries_left: Option<u32>,
}

/// Where a zone is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Phase {
    Stopped,
    Starting,
    Running,
    Paused,
    /// On its way to `Locked`.
    Locking,
    /// It stands still, and the key of its disk is nowhere.
    Locked,
    Stopping,
    Failed,
}

/// A tunnel's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// A session with the gateway is valid.
    pub up: bool,
    /// Payload bytes out.
    pub sent_bytes: u64,
    /// Payload bytes in.
    pub received_bytes: u64,
    /// Why it is not up.
    pub reason: Option<String>,
    /// The public half of its key in base64, if there is one to show.
    pub public_key: Option<String>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Rises with each notice since `zoned` started.
    pub number: u64,
    /// What it is about, such as `vmm office`.
    pub process: String,
    /// The sentence.
    pub text: String,
}

/// The colours that a policy can give a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Brown,
    Grey,
}

impl Colour {
    /// Every colour.
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Blue,
        Self::Purple,
        Self::Brown,
        Self::Grey,
    ];

    /// The colour called `name`; an unknown name is grey, so that a newer `zoned` still gets its tile.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|colour| colour.name() == name).unwrap_or(Self::Grey)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::Brown => "brown",
            Self::Grey => "grey",
        }
    }

    /// Red, green and blue on the display. Each is dark enough to carry white text (contrast >= 4.5).
    #[must_use]
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [0xb8, 0x2b, 0x2b],
            Self::Orange => [0xb4, 0x50, 0x09],
            Self::Yellow => [0x86, 0x66, 0x06],
            Self::Green => [0x1f, 0x7a, 0x3d],
            Self::Blue => [0x1f, 0x5f, 0xb8],
            Self::Purple => [0x7a, 0x3f, 0xb0],
            Self::Brown => [0x7a, 0x50, 0x30],
            Self::Grey => [0x5b, 0x64, 0x6e],
        }
    }
}
