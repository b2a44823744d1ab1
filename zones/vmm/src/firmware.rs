//! The zone's firmware as the machine sees it: it may read the mailbox, and it says once how it ends.
//!
//! ```text
//!   begin(record): mailbox full, port open
//!      | report "going on"                      | report of a failure
//!      v                                        v
//!   mailbox empty, port closed until           the machine ends with the failure's sentence
//!   the next begin: the kernel has no say
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use devices::mailbox::Mailbox;
use handover::failure::Failure;
use handover::place::GOING_ON;

/// Mailbox and report.
#[derive(Debug, Default)]
pub(crate) struct Firmware {
    mailbox: Mutex<Mailbox>,
    /// Whether it is the firmware that runs.
    runs: AtomicBool,
}

impl Firmware {
    /// The machine is about to start, with this record.
    pub(crate) fn begin(&self, record: &[u8]) {
        self.with_mailbox(|mailbox| mailbox.fill(record));
        self.runs.store(true, Ordering::Release);
    }

    /// A guest's read of the mailbox.
    pub(crate) fn read_mailbox(&self, offset: u64, data: &mut [u8]) {
        self.with_mailbox(|mailbox| mailbox.read(offset, data));
    }

    /// A guest's write to the port of the report: why the machine ends, if it does.
    pub(crate) fn report(&self, code: u32) -> Option<String> {
        if !self.runs.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.with_mailbox(Mailbox::empty);
        if code == GOING_ON {
            return None;
        }
        let reason = match Failure::from_code(code) {
            Some(exception @ Failure::Exception(vector)) => {
                format!("{} (exception {vector})", exception.sentence())
            }
            Some(failure) => failure.sentence().to_owned(),
            None => format!("it failed for a reason that this host does not know (number {code})"),
        };
        Some(format!("the zone's firmware: {reason}"))
    }

    fn with_mailbox(&self, act: impl FnOnce(&mut Mailbox)) {
        act(&mut self.mailbox.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(firmware: &Firmware) -> [u8; 4] {
        let mut data = [0xEE; 4];
        firmware.read_mailbox(0, &mut data);
        data
    }

    #[test]
    fn what_comes_after_the_firmware_finds_no_record_and_has_no_say() {
        let firmware = Firmware::default();
        let failed = Failure::NoRecord.code();
        assert_eq!(firmware.report(failed), None, "nothing runs yet");
        for _ in 0..2 {
            firmware.begin(b"record");
            assert_eq!(read(&firmware), *b"reco");
            assert_eq!(firmware.report(GOING_ON), None);
            let mut rest = [0xEE; 8];
            firmware.read_mailbox(4, &mut rest);
            assert_eq!((read(&firmware), rest), ([0; 4], [0; 8]));
            assert_eq!(firmware.report(failed), None);
        }
    }

    #[test]
    fn a_failure_is_a_sentence() {
        for (code, expected) in [
            (Failure::NoRecord.code(), "the zone's firmware: it was given no login record"),
            (0x10D, "the zone's firmware: it has a defect: the processor stopped it (exception 13)"),
            (999, "the zone's firmware: it failed for a reason that this host does not know (number 999)"),
        ] {
            let firmware = Firmware::default();
            firmware.begin(b"record");
            assert_eq!(firmware.report(code).as_deref(), Some(expected));
            assert_eq!(firmware.report(code), None, "once");
            assert_eq!(read(&firmware), [0; 4]);
        }
    }
}
