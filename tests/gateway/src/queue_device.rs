//! A smoltcp device between two queues of packets.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Packets in, packets out; what is over [`QueueDevice::LIMIT`] waits in the stack.
#[derive(Debug)]
pub(crate) struct QueueDevice {
    medium: Medium,
    mtu: usize,
    pub(crate) inbound: VecDeque<Vec<u8>>,
    pub(crate) outbound: VecDeque<Vec<u8>>,
}

impl QueueDevice {
    /// The most packets that wait in either direction.
    pub(crate) const LIMIT: usize = 1024;

    pub(crate) fn new(medium: Medium, mtu: usize) -> Self {
        Self { medium, mtu, inbound: VecDeque::new(), outbound: VecDeque::new() }
    }
}

impl Device for QueueDevice {
    type RxToken<'a> = Inbound;
    type TxToken<'a> = Outbound<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Inbound, Outbound<'_>)> {
        if self.outbound.len() >= Self::LIMIT {
            return None;
        }
        let packet = self.inbound.pop_front()?;
        Some((Inbound(packet), Outbound(&mut self.outbound)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outbound<'_>> {
        (self.outbound.len() < Self::LIMIT).then_some(Outbound(&mut self.outbound))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(crate) struct Inbound(Vec<u8>);

impl RxToken for Inbound {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Outbound<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
