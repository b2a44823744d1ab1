//! The header of every vsock packet (virtio 1.3, section 5.10.6).

/// Length of a header on the wire.
pub(super) const SIZE: usize = 44;

/// The only socket type that this device knows.
pub(super) const STREAM: u16 = 1;

/// What a packet does.
pub(super) mod op {
    /// Asks for a connection.
    pub(in super::super) const REQUEST: u16 = 1;
    /// Accepts one.
    pub(in super::super) const RESPONSE: u16 = 2;
    /// Ends one at once, or refuses it.
    pub(in super::super) const RST: u16 = 3;
    /// Ends one or both directions.
    pub(in super::super) const SHUTDOWN: u16 = 4;
    /// Carries bytes.
    pub(in super::super) const RW: u16 = 5;
    /// Says how much room there is.
    pub(in super::super) const CREDIT_UPDATE: u16 = 6;
    /// Asks how much room there is.
    pub(in super::super) const CREDIT_REQUEST: u16 = 7;
}

/// Flag of a shutdown: its sender receives nothing more.
pub(super) const SHUT_RECEIVE: u32 = 1;

/// Flag of a shutdown: its sender sends nothing more.
pub(super) const SHUT_SEND: u32 = 2;

/// A header as the sender claims it to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source_cid: u64,
    pub(super) destination_cid: u64,
    pub(super) source_port: u32,
    pub(super) destination_port: u32,
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buffer_size: u32,
    pub(super) forwarded: u32,
}

impl Header {
    /// Reads a header; any bytes are one.
    pub(super) fn from_bytes(bytes: [u8; SIZE]) -> Self {
        let mut fields = Fields(&bytes);
        Self {
            source_cid: u64::from_le_bytes(fields.take()),
            destination_cid: u64::from_le_bytes(fields.take()),
            source_port: u32::from_le_bytes(fields.take()),
            destination_port: u32::from_le_bytes(fields.take()),
            length: u32::from_le_bytes(fields.take()),
            kind: u16::from_le_bytes(fields.take()),
            op: u16::from_le_bytes(fields.take()),
            flags: u32::from_le_bytes(fields.take()),
            buffer_size: u32::from_le_bytes(fields.take()),
            forwarded: u32::from_le_bytes(fields.take()),
        }
    }

    /// The header on the wire.
    pub(super) fn to_bytes(self) -> [u8; SIZE] {
        let fields: [&[u8]; 10] = [
            &self.source_cid.to_le_bytes(),
            &self.destination_cid.to_le_bytes(),
            &self.source_port.to_le_bytes(),
            &self.destination_port.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buffer_size.to_le_bytes(),
            &self.forwarded.to_le_bytes(),
        ];
        let mut bytes = [0; SIZE];
        for (target, source) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *target = *source;
        }
        bytes
    }
}

/// Bytes that are taken field by field.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the fields add up to the header's size");
        self.0 = rest;
        *field
    }
}
