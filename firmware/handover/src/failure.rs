//! Why the firmware did not go on to the kernel: a code for the port, and a sentence for the user.

/// First code of processor exceptions; the vector is added.
pub const EXCEPTIONS: u32 = 0x100;

/// Why. A code never changes its meaning: host and firmware may be of different builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A bug of the firmware.
    Panicked,
    /// A processor exception, by its vector: a bug of the firmware.
    Exception(u8),
    /// The VMM's start information is not as the PVH protocol demands.
    StartInfo,
    /// The memory map has no sense, or too many entries.
    MemoryMap,
    /// There is no kernel among the modules.
    NoKernel,
    /// The mailbox is empty.
    NoRecord,
    /// What is in the mailbox is no record of this version.
    Record,
    /// The mailbox gave something a second time.
    MailboxKept,
    /// The vTPM does not answer.
    TpmSilent,
    /// The vTPM's answer is no answer.
    TpmAnswer,
    /// The vTPM refused to start.
    TpmStart,
    /// The vTPM does not give the record's hash.
    TpmIndex,
    /// The record is not the one whose hash the vTPM holds.
    RecordChanged,
    /// The vTPM did not extend the register.
    TpmCap,
    /// The vTPM gave no random numbers.
    TpmRandom,
    /// The platform's authorization was not changed.
    TpmPlatformAuth,
    /// The platform hierarchy was not turned off.
    TpmPlatformOff,
    /// The credentials do not fit into the SMBIOS tables.
    Credentials,
    /// The kernel's file is of no known kind.
    KernelKind,
    /// The kernel's headers contradict themselves.
    KernelHeaders,
    /// The kernel has no 64-bit entry.
    KernelEntry,
    /// A part of the kernel would lie outside of memory.
    KernelOutside,
    /// A part of the kernel would lie over something else that is needed.
    KernelOverlap,
    /// The initrd or the command line lies where it cannot be given to the kernel.
    Modules,
}

/// All failures but exceptions: code, failure, sentence.
const TABLE: &[(u32, Failure, &str)] = &[
    (1, Failure::Panicked, "it has a defect and stopped"),
    (2, Failure::StartInfo, "it was started with information that it does not understand"),
    (3, Failure::MemoryMap, "the zone's memory map makes no sense"),
    (4, Failure::NoKernel, "it was given no kernel"),
    (5, Failure::NoRecord, "it was given no login record"),
    (6, Failure::Record, "the login record is damaged or of another version"),
    (7, Failure::MailboxKept, "the login record could be read twice"),
    (8, Failure::TpmSilent, "the zone's TPM does not answer"),
    (9, Failure::TpmAnswer, "the zone's TPM gave an answer that is none"),
    (10, Failure::TpmStart, "the zone's TPM did not start"),
    (11, Failure::TpmIndex, "the zone's TPM does not know this start"),
    (12, Failure::RecordChanged, "the login record is not the one that was made for this start"),
    (13, Failure::TpmCap, "the zone's TPM could not be closed for what comes after login"),
    (14, Failure::TpmRandom, "the zone's TPM gave no random numbers"),
    (15, Failure::TpmPlatformAuth, "the zone's TPM kept its old platform authorization"),
    (16, Failure::TpmPlatformOff, "the zone's TPM left its platform hierarchy on"),
    (17, Failure::Credentials, "the login record's credentials do not fit"),
    (18, Failure::KernelKind, "the kernel is neither an ELF file nor a bzImage"),
    (19, Failure::KernelHeaders, "the kernel's headers contradict themselves"),
    (20, Failure::KernelEntry, "the kernel has no 64-bit entry"),
    (21, Failure::KernelOutside, "the kernel does not fit into the zone's memory"),
    (22, Failure::KernelOverlap, "the kernel would overwrite what it is started with"),
    (23, Failure::Modules, "initrd or command line lie where the kernel cannot take them"),
];

impl Failure {
    /// What goes to the port; never [`crate::place::GOING_ON`].
    #[must_use]
    pub fn code(self) -> u32 {
        if let Self::Exception(vector) = self {
            return EXCEPTIONS | u32::from(vector);
        }
        let row = TABLE.iter().find(|(_, failure, _)| *failure == self);
        row.map_or(1, |(code, ..)| *code)
    }

    /// The failure of a code that came through the port.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        if let Some(vector) = code.checked_sub(EXCEPTIONS) {
            return u8::try_from(vector).ok().map(Self::Exception);
        }
        TABLE.iter().find(|(of_row, ..)| *of_row == code).map(|(_, failure, _)| *failure)
    }

    /// What the user reads, as a fragment that follows "the zone's firmware: ".
    #[must_use]
    pub fn sentence(self) -> &'static str {
        let row = TABLE.iter().find(|(_, failure, _)| *failure == self);
        row.map_or("it has a defect: the processor stopped it", |(.., sentence)| sentence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::place::GOING_ON;

    #[test]
    fn each_code_is_one_failure_with_its_own_sentence() {
        let mut sentences = BTreeSet::new();
        for (code, failure, sentence) in TABLE {
            assert_ne!(*code, GOING_ON);
            assert_eq!(Failure::from_code(*code), Some(*failure));
            assert_eq!(failure.code(), *code);
            assert!(sentences.insert(failure.sentence()) && !sentence.ends_with('.'), "{sentence}");
        }
        for vector in 0..=u8::MAX {
            let exception = Failure::Exception(vector);
            assert_eq!(Failure::from_code(exception.code()), Some(exception));
            assert!(!sentences.contains(exception.sentence()));
        }
    }

    #[test]
    fn other_codes_are_none() {
        for code in [GOING_ON, 24, 0xFF, 0x200, u32::MAX] {
            assert_eq!(Failure::from_code(code), None, "{code:#x}");
        }
    }

    #[test]
    fn the_table_holds_every_failure() {
        // A failure that is not in the table would be reported as the first.
        let firsts = TABLE.iter().filter(|(_, failure, _)| failure.code() == 1).count();
        assert_eq!((firsts, TABLE.len()), (1, 23));
        let last = TABLE.iter().map(|(code, ..)| *code).max();
        assert_eq!(last, Some(23));
    }
}
