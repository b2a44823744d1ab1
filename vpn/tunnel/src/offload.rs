//! What a guest left to its network device: completing a checksum, cutting a TCP super-packet into segments
//! (virtio 1.3, section 5.1.6.2).
//!
//! Everything in the header is a claim of the guest. It is never used to find the IP header, and a checksum is never
//! written into one.

use crate::bytes::{be16, be32, fold, put, sum};
use crate::ip::{self, Header, TCP};

/// Length of [`VnetHeader`] on the wire, with `num_buffers`.
pub const VNET_HEADER: usize = 12;

/// `flags`: the checksum at `checksum_start + checksum_offset` is to be completed.
const NEEDS_CSUM: u8 = 1;
/// `flags` towards the guest: the checksum was verified.
pub const DATA_VALID: u8 = 2;
/// `gso_type`: TCP over IPv4.
const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6.
const GSO_TCPV6: u8 = 4;
/// The least segment size: what Linux ever uses. Bounds the segments that one frame makes.
const MIN_SEGMENT: usize = 48;

const TCP_FIN_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;

/// The header that a guest puts before a frame (`struct virtio_net_hdr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// Bit 0: complete the checksum.
    pub flags: u8,
    /// 0: none.
    pub gso_type: u8,
    /// Payload of one segment.
    pub gso_size: u16,
    /// Where the checksum begins, from the start of the frame.
    pub checksum_start: u16,
    /// Where its field is, from `checksum_start`.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Reads the little-endian header. The guest's `hdr_len` is a hint and `num_buffers` is not for us: both are
    /// ignored.
    #[must_use]
    pub fn parse(bytes: &[u8; VNET_HEADER]) -> Self {
        let [
            flags,
            gso_type,
            _,
            _,
            size_low,
            size_high,
            start_low,
            start_high,
            offset_low,
            offset_high,
            _,
            _,
        ] = *bytes;
        Self {
            flags,
            gso_type,
            gso_size: u16::from_le_bytes([size_low, size_high]),
            checksum_start: u16::from_le_bytes([start_low, start_high]),
            checksum_offset: u16::from_le_bytes([offset_low, offset_high]),
        }
    }

    /// Whether the frame is a super-packet.
    pub(crate) fn is_segmented(&self) -> bool {
        self.gso_type != 0
    }
}

/// Why a frame cannot be sent as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffloadError {
    /// The request contradicts the packet.
    Malformed,
    /// The packet is larger than the MTU and may not be cut.
    TooLarge,
}

/// Cuts `packet` (an IP packet with header `header`) as `offload` asks and calls `each` with every finished packet,
/// which lies at the start of `scratch`. `ethernet` is the length of what preceded the packet in its frame.
pub(crate) fn packets(
    offload: &VnetHeader,
    ethernet: usize,
    packet: &[u8],
    header: &Header,
    mtu: usize,
    scratch: &mut [u8],
    mut each: impl FnMut(&mut [u8], usize),
) -> Result<(), OffloadError> {
    let packet = packet.get(..header.total_len).ok_or(OffloadError::Malformed)?;
    if offload.is_segmented() {
        return Segments::new(offload, packet, header, mtu)?.emit(scratch, each);
    }
    if packet.len() > mtu {
        return Err(OffloadError::TooLarge);
    }
    put(scratch, 0, packet).ok_or(OffloadError::TooLarge)?;
    if offload.flags & NEEDS_CSUM != 0 {
        let whole = scratch.get_mut(..packet.len()).ok_or(OffloadError::Malformed)?;
        complete(offload, ethernet, whole, header).ok_or(OffloadError::Malformed)?;
    }
    each(scratch, packet.len());
    Ok(())
}

/// Completes the checksum of one packet: the field holds the pseudo header's sum.
fn complete(offload: &VnetHeader, ethernet: usize, packet: &mut [u8], header: &Header) -> Option<()> {
    let start = usize::from(offload.checksum_start).checked_sub(ethernet)?;
    if start < header.header_len || header.fragment {
        return None;
    }
    let field = start.checked_add(usize::from(offload.checksum_offset))?;
    be16(packet, field)?;
    // As Linux does: a sum of zero is written as its other representation.
    let checksum = match fold(sum(packet.get(start..)?, 0)) {
        0 => 0xffff,
        checksum => checksum,
    };
    put(packet, field, &checksum.to_be_bytes())
}

/// A TCP super-packet that passed every check.
struct Segments<'a> {
    ip: &'a [u8],
    tcp: &'a [u8],
    payload: &'a [u8],
    header: Header,
    size: usize,
    identification: u16,
    sequence: u32,
    flags: u8,
}

impl<'a> Segments<'a> {
    fn new(
        offload: &VnetHeader,
        packet: &'a [u8],
        header: &Header,
        mtu: usize,
    ) -> Result<Self, OffloadError> {
        Self::checked(offload, packet, header, mtu).ok_or(OffloadError::Malformed)
    }

    fn checked(offload: &VnetHeader, packet: &'a [u8], header: &Header, mtu: usize) -> Option<Self> {
        let wanted = if header.source.is_ipv4() { GSO_TCPV4 } else { GSO_TCPV6 };
        if offload.gso_type != wanted || header.protocol != TCP || header.fragment {
            return None;
        }
        let (ip, transport) = packet.split_at_checked(header.header_len)?;
        let tcp_len = usize::from(transport.get(12)? >> 4).saturating_mul(4);
        if tcp_len < 20 {
            return None;
        }
        let (tcp, payload) = transport.split_at_checked(tcp_len)?;
        let room = mtu.checked_sub(ip.len())?.checked_sub(tcp.len())?;
        // A guest that learnt of the MTU late may ask for more than fits: smaller segments are always right.
        let size = usize::from(offload.gso_size).min(room);
        if size < MIN_SEGMENT || payload.is_empty() {
            return None;
        }
        Some(Self {
            ip,
            tcp,
            payload,
            header: *header,
            size,
            identification: be16(ip, 4)?,
            sequence: be32(tcp, 4)?,
            flags: *tcp.get(13)?,
        })
    }

    fn emit(&self, scratch: &mut [u8], mut each: impl FnMut(&mut [u8], usize)) -> Result<(), OffloadError> {
        let mut sequence = self.sequence;
        let mut identification = self.identification;
        let count = self.payload.len().div_ceil(self.size);
        for (number, chunk) in self.payload.chunks(self.size).enumerate() {
            let mut flags = self.flags;
            if number.saturating_add(1) < count {
                flags &= !TCP_FIN_PSH;
            }
            if number > 0 {
                flags &= !TCP_CWR;
            }
            let length =
                self.write(scratch, chunk, sequence, identification, flags).ok_or(OffloadError::Malformed)?;
            each(scratch, length);
            sequence = sequence.wrapping_add(u32::try_from(chunk.len()).unwrap_or_default());
            identification = identification.wrapping_add(1);
        }
        Ok(())
    }

    /// Writes one segment to the start of `out` and returns its length.
    fn write(
        &self,
        out: &mut [u8],
        chunk: &[u8],
        sequence: u32,
        identification: u16,
        flags: u8,
    ) -> Option<usize> {
        let tcp_at = self.ip.len();
        let payload_at = tcp_at.checked_add(self.tcp.len())?;
        let total = payload_at.checked_add(chunk.len())?;
        put(out, 0, self.ip)?;
        put(out, tcp_at, self.tcp)?;
        put(out, payload_at, chunk)?;
        if self.header.source.is_ipv4() {
            put(out, 2, &u16::try_from(total).ok()?.to_be_bytes())?;
            put(out, 4, &identification.to_be_bytes())?;
            put(out, 10, &[0, 0])?;
            let checksum = fold(sum(out.get(..tcp_at)?, 0));
            put(out, 10, &checksum.to_be_bytes())?;
        } else {
            let length = total.checked_sub(ip::IPV6_HEADER)?;
            put(out, 4, &u16::try_from(length).ok()?.to_be_bytes())?;
        }
        let tcp = out.get_mut(tcp_at..total)?;
        put(tcp, 4, &sequence.to_be_bytes())?;
        put(tcp, 13, &[flags])?;
        put(tcp, 16, &[0, 0])?;
        let pseudo = ip::pseudo_header(self.header.source, self.header.destination, TCP, tcp.len());
        let checksum = fold(sum(tcp, pseudo));
        put(tcp, 16, &checksum.to_be_bytes())?;
        Some(total)
    }
}
