//! What a processor meets outside memory: the PCI bus, the power ports, the firmware's mailbox and its report's port, a TPM where
//! the zone has one, and nothing else.
//!
//! Whatever is not there reads as all ones and swallows writes, as on a real bus. Configuration space of a function
//! that is there is shown to the guest as a page, brought up to date after each write: a kernel reads it more than
//! a thousand times when it starts, and none of that is an exit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use devices::pci::{self, PciBus};
use devices::{power, tpm_crb};
use handover::place;
use vm_kvm::{ExitHandler, Next, ReadPages};
use zone_protocol::vmm::End;

use crate::ending::Ending;
use crate::firmware::Firmware;
use crate::layout;
use crate::tpm::Tpm;

/// The board.
pub(crate) struct Board {
    pub(crate) bus: PciBus,
    pub(crate) ending: Arc<Ending>,
    pub(crate) firmware: Firmware,
    pub(crate) tpm: Option<Arc<Tpm>>,
    /// Where configuration space is shown. Held from a write until the page has it: two writers would leave an old
    /// state there otherwise.
    shown: Mutex<Arc<ReadPages>>,
    /// Accesses that found nothing: a number for the log, never a line each.
    missed: AtomicU64,
}

/// Where an address leads.
enum Target<'a> {
    Config(u64),
    Bar(u64),
    Mailbox(u64),
    Tpm(&'a Tpm, u64),
    Nothing,
}

impl Board {
    pub(crate) fn new(bus: PciBus, ending: Arc<Ending>, pages: Arc<ReadPages>) -> Self {
        Self {
            bus,
            ending,
            firmware: Firmware::default(),
            tpm: None,
            shown: Mutex::new(pages),
            missed: AtomicU64::new(0),
        }
    }

    /// Shows the configuration space of every function as it is now.
    pub(crate) fn show_configuration(&self) {
        let pages = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..pci::MAX_DEVICES {
            self.show_function(&pages, number);
        }
    }

    /// Shows the configuration space of one function, or hides it when reading it has an effect. A failure is no
    /// harm: either way the guest can still read it.
    fn show_function(&self, pages: &ReadPages, number: u8) {
        let address = layout::ECAM + pci::config_offset(number);
        let result = match self.bus.plain_config(number) {
            Some(content) => pages.show(address, &content),
            None => pages.hide(address),
        };
        if let Err(error) = result {
            tracing::debug!(number, %error, "configuration space not shown");
        }
    }

    /// A write to configuration space, and to what is shown of it.
    fn config_write(&self, offset: u64, data: &[u8]) {
        let pages = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.bus.config_write(offset, data);
        if let Ok(number) = u8::try_from(offset / pci::config_offset(1)) {
            self.show_function(&pages, number);
        }
    }

    /// How many accesses found nothing since this was asked last.
    pub(crate) fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    fn target(&self, address: u64) -> Target<'_> {
        let within = |start: u64, size: u64| address.checked_sub(start).filter(|offset| *offset < size);
        if let Some(offset) = within(layout::BARS.into(), pci::BAR_WINDOW) {
            Target::Bar(offset)
        } else if let Some(offset) = within(layout::ECAM, pci::ECAM_SIZE) {
            Target::Config(offset)
        } else if let Some(offset) = within(place::MAILBOX, place::MAILBOX_SIZE) {
            Target::Mailbox(offset)
        } else if let (Some(tpm), Some(offset)) = (&self.tpm, within(layout::TPM, tpm_crb::PAGE_SIZE)) {
            Target::Tpm(tpm, offset)
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
        if let (place::REPORT, Ok(code)) = (port, data.try_into()) {
            if let Some(sentence) = self.firmware.report(u32::from_le_bytes(code)) {
                self.ending.end(End::Failed(sentence));
            }
            return self.next();
        }
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
            Target::Mailbox(offset) => self.firmware.read_mailbox(offset, data),
            Target::Tpm(tpm, offset) => tpm.read(offset, data),
            Target::Nothing => data.fill(0xFF),
        }
    }

    fn memory_write(&self, address: u64, data: &[u8]) -> Next {
        match self.target(address) {
            Target::Config(offset) => self.config_write(offset, data),
            Target::Bar(offset) => self.bus.bar_write(offset, data),
            Target::Tpm(tpm, offset) => tpm.write(offset, data),
            Target::Mailbox(_) | Target::Nothing => {}
        }
        self.next()
    }
}
