//! What a processor meets outside memory: the PCI bus, the power ports, and nothing else.
//!
//! Whatever is not there reads as all ones and swallows writes, as on a real bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::pci::{self, PciBus};
use devices::power;
use vm_kvm::{ExitHandler, Next};
use zone_protocol::vmm::End;

use crate::ending::Ending;
use crate::layout;

/// The board.
pub(crate) struct Board {
    pub(crate) bus: PciBus,
    pub(crate) ending: Arc<Ending>,
    /// Accesses that found nothing: a number for the log, never a line each.
    missed: AtomicU64,
}

/// Where an address leads.
enum Target {
    Config(u64),
    Bar(u64),
    Nothing,
}

impl Board {
    pub(crate) fn new(bus: PciBus, ending: Arc<Ending>) -> Self {
        Self { bus, ending, missed: AtomicU64::new(0) }
    }

    /// How many accesses found nothing since this was asked last.
    pub(crate) fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    fn target(&self, address: u64) -> Target {
        let within = |start: u64, size: u64| address.checked_sub(start).filter(|offset| *offset < size);
        if let Some(offset) = within(layout::BARS.into(), pci::BAR_WINDOW) {
            Target::Bar(offset)
        } else if let Some(offset) = within(layout::ECAM, pci::ECAM_SIZE) {
            Target::Config(offset)
        } else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            Target::Nothing
        }
    }

    /// A processor stops as soon as the machine has a reason to end.
    fn next(&self) -> Next {
        if self.ending.is_over() { Next::Stop } else { Next::Continue }
    }
}

impl ExitHandler for Board {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xFF);
        match (power::read(port), data) {
            (Some(value), [byte]) => *byte = value,
            _ => {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn port_write(&self, port: u16, data: &[u8]) -> Next {
        match data.first().and_then(|value| power::request(port, *value)) {
            Some(power::Request::PowerOff) => self.ending.end(End::ShutDown),
            Some(power::Request::Reset) => self.ending.end(End::Reset),
            None => {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.next()
    }

    fn memory_read(&self, address: u64, data: &mut [u8]) {
        match self.target(address) {
            Target::Config(offset) => self.bus.config_read(offset, data),
            Target::Bar(offset) => self.bus.bar_read(offset, data),
            Target::Nothing => data.fill(0xFF),
        }
    }

    fn memory_write(&self, address: u64, data: &[u8]) -> Next {
        match self.target(address) {
            Target::Config(offset) => self.bus.config_write(offset, data),
            Target::Bar(offset) => self.bus.bar_write(offset, data),
            Target::Nothing => {}
        }
        self.next()
    }
}
