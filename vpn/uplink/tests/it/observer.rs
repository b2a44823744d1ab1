//! Judges every frame on the wire by itself: it shares no code with the gate that it checks.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::lan::{question, sum, udp};

/// What may be seen.
pub(crate) struct Observer {
    pub(crate) mac: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) servers: Vec<Ipv4Addr>,
    pub(crate) names: Vec<String>,
    pub(crate) endpoints: Vec<SocketAddrV4>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Dhcp,
    ArpRequest,
    ArpReply,
    Dns,
    Tunnel,
}

impl Observer {
    /// What a frame is.
    ///
    /// # Errors
    /// Why it must not be there.
    pub(crate) fn judge(&self, frame: &[u8]) -> Result<Seen, String> {
        let broadcast = frame[..6] == [255; 6];
        if frame[6..12] != self.mac {
            return Err(format!("source MAC {:x?}", &frame[6..12]));
        }
        if frame[0] & 1 == 1 && !broadcast {
            return Err(format!("multicast {:x?}", &frame[..6]));
        }
        match frame[12..14] {
            [8, 6] => self.arp(frame),
            [8, 0] => self.datagram(frame, broadcast),
            _ => Err(format!("ethertype {:x?}", &frame[12..14])),
        }
    }

    fn arp(&self, frame: &[u8]) -> Result<Seen, String> {
        if frame.len() != 42 || frame[14..20] != [0, 1, 8, 0, 6, 4] || frame[20] != 0 {
            return Err("odd ARP packet".to_owned());
        }
        if frame[22..28] != self.mac || frame[28..32] != self.address.octets() {
            return Err("ARP in another's name".to_owned());
        }
        if frame[38..41] != self.address.octets()[..3] {
            return Err(format!("ARP about {:?}", &frame[38..42]));
        }
        match frame[21] {
            1 => Ok(Seen::ArpRequest),
            2 => Ok(Seen::ArpReply),
            other => Err(format!("ARP operation {other}")),
        }
    }

    fn datagram(&self, frame: &[u8], broadcast: bool) -> Result<Seen, String> {
        let udp = udp(frame).ok_or("IPv4, but no UDP")?;
        if usize::from(u16::from_be_bytes([frame[16], frame[17]])) != frame.len() - 14 {
            return Err("length of the frame and of the packet differ".to_owned());
        }
        if frame[20] & 0x3f != 0 || frame[21] != 0 {
            return Err("a fragment".to_owned());
        }
        if sum(&[&frame[14..34]]) != 0 {
            return Err("wrong IPv4 header checksum".to_owned());
        }
        let pseudo = [&frame[26..34], &[0, 17], &frame[38..40]].concat();
        if sum(&[&pseudo, &frame[34..]]) != 0 {
            return Err("wrong UDP checksum".to_owned());
        }
        let own = *udp.from.ip() == self.address;
        match (udp.from.port(), udp.to.port()) {
            (68, 67) if own || udp.from.ip().is_unspecified() => Ok(Seen::Dhcp),
            (68, 67) => Err(format!("DHCP from {}", udp.from)),
            (_, 53) if own && !broadcast && self.servers.contains(udp.to.ip()) => {
                let (name, end) = question(&udp.payload).ok_or("odd DNS message")?;
                if self.names.contains(&name) && end == udp.payload.len() {
                    Ok(Seen::Dns)
                } else {
                    Err(format!("DNS question for {name}"))
                }
            }
            _ if own && !broadcast && self.endpoints.contains(&udp.to) => Ok(Seen::Tunnel),
            _ => Err(format!("UDP from {} to {}", udp.from, udp.to)),
        }
    }
}
