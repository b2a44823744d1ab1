//! A profile's Landlock rules, as a ruleset ready to be entered.
//!
//! Every right that the running kernel knows is handled, so each is denied unless a rule grants it. A kernel
//! without Landlock, or with less than [`LEAST_ABI`], starts no process.

use std::os::fd::{AsFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::profile::{Folder, PathAccess, PathRule, Profile};

/// The oldest accepted version: 6 brought the scopes of signals and abstract sockets (Linux 6.12).
const LEAST_ABI: i32 = 6;

/// No ruleset could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeRulesetError {
    /// The kernel's Landlock is absent, switched off or too old.
    #[error("Landlock version {found} of the kernel is below {LEAST_ABI}")]
    Kernel {
        /// What it reports; 0 without Landlock.
        found: i32,
    },
    /// A path of the profile cannot be opened.
    #[error("path of a Landlock rule")]
    Path(#[from] PathFdError),
    /// The kernel refused a part of it.
    #[error("make the Landlock ruleset")]
    Ruleset(#[from] RulesetError),
}

/// The version of the running kernel's Landlock; 0 without it.
#[must_use]
pub fn kernel_version() -> i32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_long = 1;
    // SAFETY: with this flag the call takes no attributes (null, size 0) and only returns a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, LANDLOCK_CREATE_RULESET_VERSION)
    };
    i32::try_from(version).unwrap_or(0).max(0)
}

/// Checks that the running kernel can confine processes at all.
///
/// # Errors
/// [`MakeRulesetError::Kernel`].
pub fn require() -> Result<(), MakeRulesetError> {
    let found = kernel_version();
    if found < LEAST_ABI { Err(MakeRulesetError::Kernel { found }) } else { Ok(()) }
}

/// Makes the ruleset; `program` is the executable, already open, `own` the folder of this instance.
pub(crate) fn make(
    profile: &Profile,
    program: impl AsFd,
    own: Option<Folder<'_>>,
) -> Result<OwnedFd, MakeRulesetError> {
    require()?;
    let found = kernel_version();
    let abi = ABI::from(found);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?;
    let mut created =
        ruleset.create()?.add_rule(PathBeneath::new(program, AccessFs::Execute | AccessFs::ReadFile))?;
    let own = own.map(|folder| (folder.source, PathAccess::ReadWrite));
    let fixed = profile.paths.iter().map(|PathRule { path, access }| (*path, *access));
    for (place, access) in fixed.chain(own) {
        let path = PathFd::new(place)?;
        let folder = std::path::Path::new(place).is_dir();
        let rights = rights(access, abi);
        let rights = if folder { rights } else { rights & AccessFs::from_file(abi) };
        if !rights.is_empty() {
            created = created.add_rule(PathBeneath::new(path, rights))?;
        }
    }
    Option::<OwnedFd>::from(created).ok_or(MakeRulesetError::Kernel { found })
}

fn rights(access: PathAccess, abi: ABI) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rights = match access {
        // Up to version 8 connecting needs no right; ask for exactly what the kernel knows.
        PathAccess::Connect => BitFlags::from(AccessFs::ResolveUnix),
        PathAccess::Read => read,
        PathAccess::Execute => read | AccessFs::Execute,
        PathAccess::ReadWrite => {
            read | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
                | AccessFs::Refer
        }
    };
    rights & AccessFs::from_all(abi)
}
