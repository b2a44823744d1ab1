//! The whole loop with a vhost-user frontend, a driver with rings in shared memory, and a raw boringtun on the pair to
//! `uplink`. No root, no network.

mod driver;
mod network;
mod rings;

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use ipc::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};
use vpn_protocol::{Peer, VpndConfig, VpndStatus};

use crate::config;
use crate::worker::{Ended, Worker};
use driver::Driver;

const ZONE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x42];
const ZONE: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 1);
const ZONE_KEY: [u8; 32] = [7; 32];
const GATEWAY_KEY: [u8; 32] = [9; 32];

/// How long anything may take before a test gives up.
const DEADLINE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn public(private: [u8; 32]) -> PublicKey {
    PublicKey::from(&StaticSecret::from(private))
}

fn vpnd_config() -> VpndConfig {
    VpndConfig {
        zone: "office".to_owned(),
        private_key: Some(ZONE_KEY),
        addresses: vec![(ZONE.into(), 24), ("fd00:11::2".parse().unwrap(), 64)],
        dns: vec![SERVER.into()],
        mtu: 1420,
        peers: vec![Peer {
            public_key: public(GATEWAY_KEY).to_bytes(),
            allowed_ips: vec![(Ipv4Addr::UNSPECIFIED.into(), 0)],
            keepalive: None,
        }],
        zone_mac: ZONE_MAC,
    }
}

/// Waits until a descriptor is readable.
fn readable(descriptor: &impl std::os::fd::AsFd) -> bool {
    let mut fds = [PollFd::new(descriptor, PollFlags::IN)];
    poll(&mut fds, Some(&DEADLINE)).unwrap() > 0
}

/// A vpnd in a thread.
struct Vpnd {
    vhost: UnixStream,
    uplink: OwnedFd,
    status: Channel,
    worker: JoinHandle<Result<Ended, String>>,
}

impl Vpnd {
    fn start() -> Self {
        let (near_vhost, vhost) = UnixStream::pair().unwrap();
        let (uplink, near) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (status, far) = Channel::pair().unwrap();
        let worker = std::thread::spawn(move || {
            let config = config::tunnel(vpnd_config(), &ZONE_KEY, [1; 32]);
            Worker::new(&config, near_vhost, near, far)
                .and_then(Worker::run)
                .map_err(|error| format!("{error:#}"))
        });
        Self { vhost, uplink, status, worker }
    }
}

/// A vpnd in a thread, and everything around it.
struct World {
    driver: Option<Driver>,
    uplink: OwnedFd,
    status: Channel,
    worker: JoinHandle<Result<Ended, String>>,
    gateway: Tunn,
    /// Inner packets that reached the gateway.
    inner: Vec<Vec<u8>>,
}

impl World {
    fn new(features: u64, receive_buffer: usize) -> Self {
        let Vpnd { vhost, uplink, status, worker } = Vpnd::start();
        let gateway = Tunn::new(StaticSecret::from(GATEWAY_KEY), public(ZONE_KEY), None, None, 1, None);
        let driver = Some(Driver::new(vhost, features, receive_buffer));
        Self { driver, uplink, status, worker, gateway, inner: Vec::new() }
    }

    /// Ends this vpnd without a word to its rings, lets `meanwhile` happen, and lets another one go on.
    fn replace(&mut self, meanwhile: impl FnOnce(&mut Driver)) {
        let driver = self.driver.as_mut().unwrap();
        driver.hang_up();
        let Vpnd { vhost, uplink, status, worker } = Vpnd::start();
        let last = std::mem::replace(&mut self.worker, worker);
        assert_eq!(last.join().unwrap(), Ok(Ended::MachineGone));
        (self.uplink, self.status) = (uplink, status);
        meanwhile(driver);
        driver.reconnect(vhost);
    }

    fn driver(&mut self) -> &mut Driver {
        self.driver.as_mut().unwrap()
    }

    /// Takes one datagram from the pair, lets the gateway answer, and says of which kind it was.
    fn exchange(&mut self) -> u8 {
        assert!(readable(&self.uplink), "vpnd sends nothing");
        let mut packet = [0; 2000];
        let (length, _) = recv(&self.uplink, &mut packet, RecvFlags::empty()).unwrap();
        let (peer, datagram) = vpn_protocol::datagram::parse(&packet[..length]).expect("a framed datagram");
        assert_eq!(peer, 0);
        let kind = datagram[0];
        let mut input = datagram;
        let mut out = [0; 2000];
        loop {
            match self.gateway.decapsulate(Some(Ipv4Addr::LOCALHOST.into()), input, &mut out) {
                TunnResult::WriteToNetwork(answer) => {
                    let answer = [&[0], &*answer].concat();
                    send(&self.uplink, &answer, SendFlags::empty()).unwrap();
                }
                TunnResult::WriteToTunnelV4(packet, _) => {
                    self.inner.push(packet.to_vec());
                    break;
                }
                TunnResult::Done => break,
                other @ (TunnResult::Err(_) | TunnResult::WriteToTunnelV6(..)) => panic!("{other:?}"),
            }
            input = &[];
        }
        kind
    }

    /// Until the first handshake is done.
    fn establish(&mut self) {
        assert_eq!(self.exchange(), 1, "a handshake initiation comes first");
        assert_eq!(self.exchange(), 4, "then the keepalive that confirms it");
    }

    /// Until this many inner packets have come.
    fn until_inner(&mut self, count: usize) {
        while self.inner.len() < count {
            self.exchange();
        }
    }

    /// Sends an inner packet from the gateway.
    fn answer(&mut self, packet: &[u8]) {
        let mut out = [0; 2000];
        let TunnResult::WriteToNetwork(message) = self.gateway.encapsulate(packet, &mut out) else {
            panic!("the gateway has no session");
        };
        let message = [&[0], &*message].concat();
        send(&self.uplink, &message, SendFlags::empty()).unwrap();
    }

    /// The next status.
    fn status(&self) -> VpndStatus {
        assert!(readable(&self.status), "no status");
        self.status.receive().unwrap().0
    }

    /// Closes the vhost-user stream and waits for the worker.
    fn end(mut self) -> Ended {
        self.driver = None;
        self.worker.join().unwrap().unwrap()
    }
}

/// An IPv4 UDP packet with right checksums.
fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: source.1, dst_port: destination.1 };
    let ip = Ipv4Repr {
        src_addr: source.0,
        dst_addr: destination.0,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let checksums = ChecksumCapabilities::default();
    let mut packet = vec![0; 20 + 8 + payload.len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut packet[20..]),
        &IpAddress::from(source.0),
        &IpAddress::from(destination.0),
        payload.len(),
        |body| body.copy_from_slice(payload),
        &checksums,
    );
    packet
}

fn frame(destination: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination, &ZONE_MAC, ethertype.to_be_bytes().as_slice(), payload].concat()
}

/// An ARP request of the zone for the gateway.
fn arp_request() -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
    payload.extend_from_slice(&ZONE_MAC);
    payload.extend_from_slice(&ZONE.octets());
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&tunnel::GATEWAY_V4.octets());
    frame([0xff; 6], 0x0806, &payload)
}
