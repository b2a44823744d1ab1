//! The handle on `/dev/kvm`.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use kvm_ioctls::Cap;

/// The only version of the interface that was ever stable.
const API_VERSION: i32 = 12;

/// What a machine of ours cannot do without.
const REQUIRED: [(Cap, &str); 6] = [
    (Cap::Irqchip, "in-kernel interrupt controllers"),
    (Cap::UserMemory, "user memory"),
    (Cap::Irqfd, "irqfd"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::ImmediateExit, "immediate exit"),
    (Cap::ExtCpuid, "extended CPUID"),
];

/// Why the descriptor is no KVM that we can use.
#[derive(Debug, thiserror::Error)]
pub enum OpenKvmError {
    /// The descriptor does not answer as `/dev/kvm`.
    #[error("KVM interface version {0}, expected {API_VERSION}")]
    ApiVersion(i32),
    /// A capability is missing.
    #[error("KVM lacks {0}")]
    Missing(&'static str),
}

/// `/dev/kvm`.
#[derive(Debug)]
pub struct Kvm {
    pub(crate) system: kvm_ioctls::Kvm,
}

impl Kvm {
    /// Takes a descriptor of `/dev/kvm` that was opened elsewhere.
    ///
    /// # Errors
    /// [`OpenKvmError`] when it is not KVM, or an older or poorer one than we need.
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<Self, OpenKvmError> {
        // SAFETY: the descriptor is open and we own it; whatever file it is, the calls below only fail.
        let system = unsafe { kvm_ioctls::Kvm::from_raw_fd(descriptor.into_raw_fd()) };
        let version = system.get_api_version();
        if version != API_VERSION {
            return Err(OpenKvmError::ApiVersion(version));
        }
        for (capability, name) in REQUIRED {
            if !system.check_extension(capability) {
                return Err(OpenKvmError::Missing(name));
            }
        }
        Ok(Self { system })
    }
}
