//! The tunnels that are carried: their source ports, their endpoints and where those are now.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use smoltcp::time::{Duration, Instant};
use vpn_protocol::{Endpoint, Host, MAX_PEERS, MAX_TUNNELS};

/// Source ports are chosen from this range, Linux' own for the purpose.
const FIRST_PORT: u16 = 32768;
const PORTS: u16 = 28232;

/// How long the one datagram that an endpoint may have waiting is still worth sending.
const HOLD: Duration = Duration::from_secs(5);

/// Why a tunnel is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddTunnelError {
    /// No more tunnels fit.
    #[error("more than {MAX_TUNNELS} tunnels")]
    TooManyTunnels,
    /// A tunnel has 1..=[`MAX_PEERS`] endpoints.
    #[error("{0} endpoints, a tunnel has 1 to {MAX_PEERS}")]
    Endpoints(usize),
}

/// One tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) port: u16,
    pub(crate) endpoints: Vec<Place>,
}

/// One endpoint of a tunnel.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    /// The endpoint's name in lower case.
    pub(crate) name: Option<String>,
    /// Where it is.
    pub(crate) at: Option<SocketAddr>,
    held: Option<(Instant, Vec<u8>)>,
}

impl Place {
    fn new(mut endpoint: Endpoint) -> Self {
        let name = match &mut endpoint.host {
            Host::Address(_) => None,
            Host::Name(name) => {
                name.make_ascii_lowercase();
                Some(name.clone())
            }
        };
        let mut place = Self { endpoint, name, at: None, held: None };
        place.resolve(|_| None);
        place
    }

    /// Looks up where the endpoint is.
    pub(crate) fn resolve(&mut self, address_of: impl Fn(&str) -> Option<IpAddr>) {
        let address = match &self.endpoint.host {
            Host::Address(address) => Some(*address),
            Host::Name(name) => address_of(name),
        };
        self.at = address.map(|address| SocketAddr::new(address, self.endpoint.port));
    }

    /// Where it is, if it can be spoken to: the LAN side speaks IPv4 only.
    pub(crate) fn at_v4(&self) -> Option<SocketAddrV4> {
        match self.at {
            Some(SocketAddr::V4(at)) => Some(at),
            Some(SocketAddr::V6(_)) | None => None,
        }
    }

    /// Keeps the last datagram that cannot be sent yet, so that a handshake begun while the name is being
    /// resolved is not lost (WireGuard repeats it only after five seconds). Returns whether another was
    /// dropped for it.
    pub(crate) fn hold(&mut self, now: Instant, payload: &[u8]) -> bool {
        self.held.replace((now, payload.to_vec())).is_some()
    }

    /// Takes the datagram that waits.
    pub(crate) fn take_held(&mut self) -> Option<Vec<u8>> {
        self.held.take().map(|(_, payload)| payload)
    }

    /// Drops the datagram that waits if it waited too long; whether it did.
    pub(crate) fn drop_stale(&mut self, now: Instant) -> bool {
        self.held.take_if(|(since, _)| *since + HOLD <= now).is_some()
    }
}

/// All tunnels.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    by_number: BTreeMap<u32, Tunnel>,
    by_port: BTreeMap<u16, u32>,
}

impl Tunnels {
    /// Adds a tunnel, in place of one with the same number; `random` decides its source port.
    pub(crate) fn add(
        &mut self,
        number: u32,
        endpoints: Vec<Endpoint>,
        random: u16,
    ) -> Result<(), AddTunnelError> {
        if endpoints.is_empty() || endpoints.len() > MAX_PEERS {
            return Err(AddTunnelError::Endpoints(endpoints.len()));
        }
        self.remove(number);
        if self.by_number.len() >= MAX_TUNNELS {
            return Err(AddTunnelError::TooManyTunnels);
        }
        let port = (0..PORTS)
            .map(|step| FIRST_PORT.wrapping_add((random % PORTS).wrapping_add(step) % PORTS))
            .find(|port| !self.by_port.contains_key(port))
            .expect("there are more ports than tunnels");
        self.by_port.insert(port, number);
        let endpoints = endpoints.into_iter().map(Place::new).collect();
        self.by_number.insert(number, Tunnel { port, endpoints });
        Ok(())
    }

    pub(crate) fn remove(&mut self, number: u32) {
        if let Some(tunnel) = self.by_number.remove(&number) {
            self.by_port.remove(&tunnel.port);
        }
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Tunnel> {
        self.by_number.get_mut(&number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Tunnel)> {
        self.by_number.iter().map(|(&number, tunnel)| (number, tunnel))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Tunnel)> {
        self.by_number.iter_mut().map(|(&number, tunnel)| (number, tunnel))
    }

    /// The tunnel whose source port this is.
    pub(crate) fn by_port(&self, port: u16) -> Option<(u32, &Tunnel)> {
        let number = *self.by_port.get(&port)?;
        Some((number, self.by_number.get(&number)?))
    }

    /// Whether a tunnel with this source port has an endpoint there.
    pub(crate) fn has_route(&self, port: u16, to: SocketAddrV4) -> bool {
        self.by_port(port)
            .is_some_and(|(_, tunnel)| tunnel.endpoints.iter().any(|place| place.at_v4() == Some(to)))
    }
}
