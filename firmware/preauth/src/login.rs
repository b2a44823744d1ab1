//! The conversation with the vTPM: checks the record, and closes what only the firmware may use.
//!
//! ```text
//!   Startup -> NV_Read: the record's hash? -> PCR_Event 11 -> GetRandom (until 32 bytes are there)
//!       -> HierarchyChangeAuth(platform) -> HierarchyControl(platform off) -> done
//! ```
//! Any other answer than the one that belongs here ends it with a failure. An answer that asks to try again is obeyed a
//! few times.

use handover::failure::Failure;
use handover::place::{CAP, CAP_PCR, RECORD_INDEX};
use handover::record::Record;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::tpm::{self, LONGEST_COMMAND};

/// How often one command is sent, and how often random bytes are asked for.
const TRIES: u8 = 100;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The first bytes of the command buffer go to the vTPM.
    Send(usize),
    /// The record is the right one, and the vTPM is closed.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Startup,
    Index,
    Cap,
    Random,
    PlatformAuth,
    PlatformOff,
}

impl Step {
    /// What it means when the vTPM refuses.
    fn refused(self) -> Failure {
        match self {
            Self::Startup => Failure::TpmStart,
            Self::Index => Failure::TpmIndex,
            Self::Cap => Failure::TpmCap,
            Self::Random => Failure::TpmRandom,
            Self::PlatformAuth => Failure::TpmPlatformAuth,
            Self::PlatformOff => Failure::TpmPlatformOff,
        }
    }
}

/// The conversation.
pub(crate) struct Login {
    step: Step,
    hash: [u8; 32],
    /// The platform's new authorization, and how much of it is there.
    auth: [u8; 32],
    have: usize,
    tries: u8,
}

impl Drop for Login {
    fn drop(&mut self) {
        self.auth.zeroize();
        self.hash.zeroize();
    }
}

impl ZeroizeOnDrop for Login {}

impl Login {
    pub(crate) fn new(record: &Record<'_>) -> Self {
        let hash = Sha256::digest(record.bytes()).into();
        Self { step: Step::Startup, hash, auth: [0; 32], have: 0, tries: TRIES }
    }

    /// The first command.
    pub(crate) fn begin(&mut self, command: &mut [u8; LONGEST_COMMAND]) -> Next {
        self.command(command)
    }

    /// The command of this step.
    fn command(&self, command: &mut [u8; LONGEST_COMMAND]) -> Next {
        Next::Send(match self.step {
            Step::Startup => tpm::startup(command),
            Step::Index => tpm::read_index(command, RECORD_INDEX),
            Step::Cap => tpm::extend(command, CAP_PCR, CAP),
            Step::Random => {
                let missing = u16::try_from(self.auth.len().saturating_sub(self.have));
                tpm::random(command, missing.unwrap_or_default())
            }
            Step::PlatformAuth => tpm::change_platform_auth(command, &self.auth),
            Step::PlatformOff => tpm::platform_off(command, &self.auth),
        })
    }

    /// Takes the answer to the last command.
    ///
    /// # Errors
    /// The answer is not the one that belongs here.
    pub(crate) fn answer(
        &mut self,
        bytes: &[u8],
        command: &mut [u8; LONGEST_COMMAND],
    ) -> Result<Next, Failure> {
        let response = tpm::response(bytes)?;
        if tpm::AGAIN.contains(&response.code) {
            return self.again(command);
        }
        let started = self.step == Step::Startup && response.code == tpm::ALREADY_STARTED;
        if response.code != tpm::SUCCESS && !started {
            return Err(self.step.refused());
        }
        self.step = match self.step {
            Step::Startup => Step::Index,
            Step::Index => {
                let hash = tpm::buffer(response.parameters)?;
                if !bool::from(self.hash.as_slice().ct_eq(hash)) {
                    return Err(Failure::RecordChanged);
                }
                Step::Cap
            }
            Step::Cap => Step::Random,
            Step::Random => {
                self.take_random(tpm::buffer(response.parameters)?)?;
                if self.have < self.auth.len() {
                    return self.again(command);
                }
                Step::PlatformAuth
            }
            Step::PlatformAuth => Step::PlatformOff,
            Step::PlatformOff => return Ok(Next::Done),
        };
        self.tries = TRIES;
        Ok(self.command(command))
    }

    /// Sends the step's command once more, but not for ever.
    fn again(&mut self, command: &mut [u8; LONGEST_COMMAND]) -> Result<Next, Failure> {
        self.tries = self.tries.checked_sub(1).ok_or(self.step.refused())?;
        Ok(self.command(command))
    }

    /// A vTPM may give fewer bytes than it was asked for (Part 3, 16.1), never more.
    fn take_random(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let rest = self.auth.get_mut(self.have..).unwrap_or_default();
        let (place, _) = rest.split_at_mut_checked(bytes.len()).ok_or(Failure::TpmAnswer)?;
        place.copy_from_slice(bytes);
        self.have = self.have.saturating_add(bytes.len());
        Ok(())
    }
}
