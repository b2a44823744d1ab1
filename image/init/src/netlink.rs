//! The few rtnetlink requests that init makes, as bytes, and a socket that waits for their answer.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 0x80;
/// `TC_H_CLSACT` as a parent, and its ingress hook as a filter's parent.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_MATCHALL_ACT: u16 = 2;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_GACT_PARMS: u16 = 2;
const TC_ACT_SHOT: u32 = 2;
const ETH_P_ALL: u16 = 3;

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16, fixed: &[u32]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        // Sequence number and port: one request is outstanding at a time.
        bytes.extend([0; 8]);
        bytes.extend(fixed.iter().flat_map(|word| word.to_ne_bytes()));
        Self { bytes }
    }

    fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        self.bytes.extend(attribute(kind, payload));
        self
    }

    /// The finished bytes.
    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("requests are short");
        if let Some(field) = self.bytes.first_chunk_mut::<4>() {
            *field = length.to_ne_bytes();
        }
        self.bytes
    }

    /// Moves a link to the network namespace behind a descriptor's number.
    pub(crate) fn move_link(index: u32, namespace: u32) -> Self {
        Self::new(RTM_NEWLINK, 0, &[0, index, 0, 0]).attribute(IFLA_NET_NS_FD, &namespace.to_ne_bytes())
    }

    /// Sets a link up, without ARP by the kernel.
    pub(crate) fn set_up(index: u32) -> Self {
        Self::new(RTM_NEWLINK, 0, &[0, index, IFF_UP | IFF_NOARP, IFF_UP | IFF_NOARP])
    }

    /// Gives a link the hooks where filters sit before and after the kernel's stack.
    pub(crate) fn add_hooks(index: u32) -> Self {
        let fixed = [0, index, CLSACT_HANDLE, CLSACT, 0];
        Self::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &fixed).attribute(TCA_KIND, b"clsact\0")
    }

    /// Drops every frame before the kernel's stack sees it; packet sockets got their copy before.
    pub(crate) fn drop_ingress(index: u32) -> Self {
        let protocol = u32::from(ETH_P_ALL.to_be());
        let fixed = [0, index, 0, CLSACT_INGRESS, (1 << 16) | protocol];
        // struct tc_gact: index, capabilities, action, reference and bind counts.
        let parameters: Vec<u8> =
            [0, 0, TC_ACT_SHOT, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let action = [
            attribute(TCA_ACT_KIND, b"gact\0"),
            attribute(TCA_ACT_OPTIONS, &attribute(TCA_GACT_PARMS, &parameters)),
        ]
        .concat();
        let options = attribute(TCA_MATCHALL_ACT, &attribute(1, &action));
        Self::new(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &fixed)
            .attribute(TCA_KIND, b"matchall\0")
            .attribute(TCA_OPTIONS, &options)
    }
}

/// One attribute with its padding; nested ones are attributes in the payload.
fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len().saturating_add(4)).expect("attributes here are short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The error code of an answer.
fn answer(bytes: &[u8]) -> io::Result<()> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let (_, rest) = bytes.split_first_chunk::<4>().ok_or_else(malformed)?;
    let (kind, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
    let code = rest.get(10..14).and_then(|code| code.first_chunk::<4>()).ok_or_else(malformed)?;
    if u16::from_ne_bytes(*kind) != NLMSG_ERROR {
        return Err(malformed());
    }
    match i32::from_ne_bytes(*code) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// A socket to the namespace in which it was made.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
}

impl Socket {
    /// Opens it.
    pub(crate) fn open() -> io::Result<Self> {
        // No protocol given is protocol 0: NETLINK_ROUTE.
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Makes one request and waits for its answer; the kernel answers before it returns.
    pub(crate) fn request(&self, message: Message) -> io::Result<()> {
        rustix::net::send(&self.socket, &message.finish(), SendFlags::empty())?;
        let mut bytes = [0_u8; 4096];
        let (_, length) = rustix::net::recv(&self.socket, &mut bytes, RecvFlags::empty())?;
        answer(bytes.get(..length).unwrap_or(&bytes))
    }
}

#[cfg(test)]
mod tests;
