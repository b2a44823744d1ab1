//! One queue as a device model serves it: checked chains in, used buffers out.
//!
//! Everything in a ring is the guest's claim. A chain is walked once and turned into [`Chain`], whose buffers
//! were checked to lie in guest memory; a chain that breaks the rules is given back unused and counted, and
//! the device never sees it. Only a ring whose indices make no sense ends the service ([`BrokenRing`]).
//! Bytes are copied; no reference into guest memory ever exists.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestAddressSpace, GuestMemory as _, GuestMemoryMmap, Permissions,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::counters::Counters;
use super::worker::{Stop, Waiter, WorkerError};
use super::{Activation, ActiveQueue, Interrupt};

/// The ring's own fields make no sense: the device needs a reset.
#[derive(Debug, thiserror::Error)]
#[error("{index} cannot be served")]
pub(crate) struct BrokenRing {
    index: u16,
    source: virtio_queue::Error,
}

/// A queue that is served.
pub(crate) struct Ring {
    index: u16,
    queue: Queue,
    kick: EventFd,
    memory: Arc<GuestMemoryMmap<()>>,
    counters: Arc<Counters>,
}

/// One request of the guest.
pub(crate) struct Chain {
    /// What the device may read, in order.
    pub(crate) readable: Buffers,
    /// What the device may write, in order.
    pub(crate) writable: Buffers,
    head: u16,
}

impl Chain {
    /// The number by which the chain is given back.
    pub(crate) fn head(&self) -> u16 {
        self.head
    }
}

/// Checked buffers of a chain, consumed from the front.
pub(crate) struct Buffers {
    memory: Arc<GuestMemoryMmap<()>>,
    pieces: VecDeque<(GuestAddress, u32)>,
}

impl Buffers {
    fn new(memory: &Arc<GuestMemoryMmap<()>>) -> Self {
        Self { memory: Arc::clone(memory), pieces: VecDeque::new() }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> u64 {
        self.pieces.iter().map(|(_, size)| u64::from(*size)).fold(0, u64::saturating_add)
    }

    /// Where they are: address and size of each.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, u32)> {
        self.pieces.iter().map(|(address, size)| (address.raw_value(), *size))
    }

    /// Copies as much as fits from the guest into `target`; says how much that was.
    pub(crate) fn read(&mut self, target: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some((address, size)) = self.front(target.len().saturating_sub(done)) {
            let Some(part) = target.get_mut(done..done.saturating_add(size)) else { break };
            if self.memory.read_slice(part, address).is_err() {
                break;
            }
            self.consume(size);
            done = done.saturating_add(size);
        }
        done
    }

    /// Copies as much as fits of `source` to the guest; says how much that was.
    pub(crate) fn write(&mut self, source: &[u8]) -> usize {
        let mut done = 0;
        while let Some((address, size)) = self.front(source.len().saturating_sub(done)) {
            let Some(part) = source.get(done..done.saturating_add(size)) else { break };
            if self.memory.write_slice(part, address).is_err() {
                break;
            }
            self.consume(size);
            done = done.saturating_add(size);
        }
        done
    }

    /// Reads exactly `N` bytes.
    pub(crate) fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.read(&mut bytes) == N).then_some(bytes)
    }

    /// Cuts off the last byte, where some devices report their status.
    pub(crate) fn split_last_byte(&mut self) -> Option<Self> {
        let (address, size) = self.pieces.pop_back()?;
        let rest = size.checked_sub(1)?;
        let last = address.checked_add(u64::from(rest))?;
        if rest > 0 {
            self.pieces.push_back((address, rest));
        }
        Some(Self { memory: Arc::clone(&self.memory), pieces: [(last, 1)].into() })
    }

    /// Where the next bytes are: at most `limit` of them, in one piece.
    fn front(&self, limit: usize) -> Option<(GuestAddress, usize)> {
        let (address, size) = self.pieces.front()?;
        let size = usize::try_from(*size).unwrap_or(usize::MAX).min(limit);
        (size > 0).then_some((*address, size))
    }

    fn consume(&mut self, size: usize) {
        let Some((address, left)) = self.pieces.pop_front() else { return };
        let Some(rest) = u32::try_from(size).ok().and_then(|size| left.checked_sub(size)) else { return };
        let Some(next) = u64::try_from(size).ok().and_then(|size| address.checked_add(size)) else { return };
        if rest > 0 {
            self.pieces.push_front((next, rest));
        }
    }
}

impl Activation {
    /// Takes queue `index` out, to be served.
    ///
    /// # Errors
    /// The driver did not enable it.
    pub(crate) fn take_ring(&mut self, index: u16, counters: &Arc<Counters>) -> io::Result<Ring> {
        let position = self.queues.iter().position(|active| active.index == index);
        let Some(position) = position else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("queue {index} is not enabled")));
        };
        let ActiveQueue { mut queue, kick, .. } = self.queues.swap_remove(position);
        queue.set_event_idx(self.features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0);
        let memory = self.memory.memory().into_inner();
        Ok(Ring { index, queue, kick, memory, counters: Arc::clone(counters) })
    }
}

impl Ring {
    /// Has `waiter` report the guest's notifications as `token`.
    pub(crate) fn watch(&self, waiter: &Waiter, token: u64) -> io::Result<()> {
        waiter.add(self.kick.as_raw_fd(), token, EventSet::IN)
    }

    /// Takes note of the guest's notification. Call only when it is ready to be read.
    pub(crate) fn clear_kick(&self) {
        // It was ready; whoever else read it meanwhile has done this for us.
        let _count = self.kick.read();
    }

    /// Takes the next chain that follows the rules.
    pub(crate) fn pop(&mut self) -> Result<Option<Chain>, BrokenRing> {
        loop {
            let memory = &*self.memory;
            let next = self.queue.iter(memory).map(|mut available| available.next());
            let chain = match next {
                Ok(Some(chain)) => chain,
                Ok(None) => return Ok(None),
                Err(source) => return Err(BrokenRing { index: self.index, source }),
            };
            let head = chain.head_index();
            if let Some((readable, writable)) = walk(&self.memory, chain, self.queue.size()) {
                return Ok(Some(Chain { readable, writable, head }));
            }
            if self.counters.malformed.add(1) {
                tracing::warn!(queue = self.index, head, "guest made a malformed descriptor chain");
            }
            self.give_back(head, 0)?;
        }
    }

    /// Puts the chain that was just popped back, as if it had not been.
    pub(crate) fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a chain back of which the device wrote the first `written` bytes.
    pub(crate) fn give_back(&mut self, head: u16, written: u32) -> Result<(), BrokenRing> {
        let index = self.index;
        self.queue.add_used(&*self.memory, head, written).map_err(|source| BrokenRing { index, source })
    }

    /// Interrupts the guest if it wants to hear of the chains given back so far.
    pub(crate) fn signal(&mut self, interrupt: &dyn Interrupt) -> Result<(), BrokenRing> {
        let index = self.index;
        let wanted = self.queue.needs_notification(&*self.memory);
        if wanted.map_err(|source| BrokenRing { index, source })? {
            interrupt.signal_queue(index);
        }
        Ok(())
    }

    /// Asks the guest to notify us from now on. True when it made chains available meanwhile.
    pub(crate) fn ask_kicks(&mut self) -> Result<bool, BrokenRing> {
        let index = self.index;
        self.queue.enable_notification(&*self.memory).map_err(|source| BrokenRing { index, source })
    }

    /// Tells the guest that its notifications are not needed for now.
    pub(crate) fn refuse_kicks(&mut self) -> Result<(), BrokenRing> {
        let index = self.index;
        self.queue.disable_notification(&*self.memory).map_err(|source| BrokenRing { index, source })
    }

    /// Serves every chain that is available with `serve`, which says how many bytes it wrote.
    pub(crate) fn drain(
        &mut self,
        stop: &Stop,
        interrupt: &dyn Interrupt,
        mut serve: impl FnMut(&mut Chain) -> u32,
    ) -> Result<(), BrokenRing> {
        loop {
            self.refuse_kicks()?;
            while let Some(mut chain) = self.pop()? {
                if stop.asked() {
                    return Ok(());
                }
                let written = serve(&mut chain);
                self.give_back(chain.head, written)?;
                self.signal(interrupt)?;
            }
            // Malformed chains were given back without a signal.
            self.signal(interrupt)?;
            if !self.ask_kicks()? || stop.asked() {
                return Ok(());
            }
        }
    }
}

/// Serves `rings`, and nothing else, until the worker has to stop. `serve` is told the queue's number.
pub(crate) fn serve_rings(
    mut rings: Vec<Ring>,
    stop: &Stop,
    interrupt: &dyn Interrupt,
    mut serve: impl FnMut(u16, &mut Chain) -> u32,
) -> Result<(), WorkerError> {
    let waiter = Waiter::new(stop)?;
    for ring in &mut rings {
        let index = ring.index;
        ring.watch(&waiter, index.into())?;
        // Chains made available before the driver was ready may have come without a notification.
        ring.drain(stop, interrupt, |chain| serve(index, chain))?;
    }
    while let Some(ready) = waiter.wait()? {
        for (token, _) in ready.iter() {
            for ring in rings.iter_mut().filter(|ring| u64::from(ring.index) == token) {
                let index = ring.index;
                ring.clear_kick();
                ring.drain(stop, interrupt, |chain| serve(index, chain))?;
            }
        }
    }
    Ok(())
}

/// Walks a chain once. `None`: it is empty, broken off, longer than the queue (virtio 1.3, 2.7.5.3.1), has
/// readable buffers after writable ones (2.7.4.2), or leaves guest memory.
fn walk(
    memory: &Arc<GuestMemoryMmap<()>>,
    chain: DescriptorChain<&GuestMemoryMmap<()>>,
    limit: u16,
) -> Option<(Buffers, Buffers)> {
    let mut readable = Buffers::new(memory);
    let mut writable = Buffers::new(memory);
    let mut count: u16 = 0;
    let mut whole = false;
    for descriptor in chain {
        count = count.checked_add(1).filter(|count| *count <= limit)?;
        whole = !descriptor.has_next();
        let size = usize::try_from(descriptor.len()).ok()?;
        let (buffers, access) = if descriptor.is_write_only() {
            (&mut writable, Permissions::Write)
        } else if writable.pieces.is_empty() {
            (&mut readable, Permissions::Read)
        } else {
            return None;
        };
        if size > 0 {
            memory.check_range(descriptor.addr(), size, access).then_some(())?;
            buffers.pieces.push_back((descriptor.addr(), descriptor.len()));
        }
    }
    whole.then_some((readable, writable))
}

#[cfg(test)]
mod tests;
