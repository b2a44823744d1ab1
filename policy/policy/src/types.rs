//! What a policy says, after every check.

use std::net::IpAddr;

/// A whole policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Rises with every change that the administrator makes; from 1.
    pub version: u32,
    /// What the desktop calls this policy. Printable ASCII, 1..=64 characters.
    pub name: String,
    /// A demonstration: the tunnels' private keys may come from a file. The desktop says so all the time.
    pub demo: bool,
    /// What lifts the display's lock. With a PIN it is locked from boot on.
    pub screen: Login,
    /// Zones in the order of the file, 1..=32.
    pub zones: Vec<Zone>,
    /// Tunnels in the order of the file.
    pub tunnels: Vec<Tunnel>,
}

/// An isolated virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// `[a-z][a-z0-9-]{0,31}`, unique.
    pub name: String,
    /// What the user reads; the name when the file gives none. Printable ASCII, 1..=32 characters.
    pub label: String,
    /// Colour of the zone's tile and frames; unique per zone.
    pub colour: Colour,
    /// Name of the template, written like a zone's name.
    pub template: String,
    /// Memory in MiB, 64..=65536.
    pub memory_mib: u32,
    /// Virtual processors, 1..=8.
    pub vcpus: u8,
    /// Size of the private disk in MiB, 16..=1048576.
    pub disk_mib: u32,
    /// The private disk is empty at each start, its key is never stored, and its space comes back at the stop.
    pub disposable: bool,
    /// Folders beside /home that lie on the private disk: absolute paths of at most 64 characters of a-z, A-Z, 0-9, /,
    /// ., _, +, @ and -, none of which lies in another; at most 8, none in a disposable zone.
    pub keep: Vec<String>,
    /// Login name of its user inside: `[a-z][a-z0-9-]{0,30}`, none that Debian gives to a user or group of its own;
    /// "user" when the file gives none.
    pub user: String,
    /// What opens the zone beside the touch.
    pub login: Login,
    /// The zone's only way out.
    pub network: Network,
}

/// Colours that can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What opens a zone, or lifts the display's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// The touch alone.
    Touch,
    /// A PIN that the machine's TPM compares and whose wrong tries it counts. Never in a disposable zone.
    Pin {
        /// Wrong ones in a row until the zone is locked, 3..=16; 5 when the file gives none.
        tries: u8,
        /// The pad's digits change places at each use.
        shuffle: bool,
    },
}

/// Where a zone's packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// No NIC at all.
    None,
    /// Into the tunnel of this name, which no other zone uses.
    Tunnel(String),
}

/// A WireGuard interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `[a-z][a-z0-9-]{0,31}`, unique.
    pub name: String,
    /// The zone's own addresses inside the tunnel: at least one, at most one of each family.
    pub addresses: Vec<IpNetwork>,
    /// DNS servers inside the tunnel, at most 3.
    pub dns: Vec<IpAddr>,
    /// MTU inside the tunnel, 1280..=1420.
    pub mtu: u16,
    /// At least one, at most 8.
    pub peers: Vec<Peer>,
}

/// The other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// X25519 public key, unique in the tunnel.
    pub public_key: [u8; 32],
    /// Where to send.
    pub endpoint: Endpoint,
    /// Networks behind this peer, at least one, at most 256; the same network belongs to one peer.
    pub allowed_ips: Vec<IpNetwork>,
    /// Seconds between keepalives, 1..=65535.
    pub keepalive: Option<u16>,
}

/// Address or name, and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// UDP port, not 0.
    pub port: u16,
}

/// A host by address or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name: ASCII letters, digits, `-` and `_`, labels of 1..=63 characters, at most 253 in all, no
    /// trailing dot, the last label not all digits.
    Name(String),
}

/// An address and the length of its network prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNetwork {
    /// The address; host bits may be set where the network is an interface's address.
    pub address: IpAddr,
    /// 0..=32 or 0..=128.
    pub prefix: u8,
}

impl std::fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Address(address) => write!(f, "{}", std::net::SocketAddr::new(*address, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
