//! A profile's system-call filters, compiled.
//!
//! Two programs, of which the kernel takes the stricter answer: the allow-list (anything else kills the
//! process) and one that answers `clone3` with ENOSYS, because a filter cannot read the flags that it takes
//! by pointer.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::calls::{Call, Condition, equal};
use crate::profile::PROGRAM_DESCRIPTOR;

/// A filter could not be compiled: the profile is wrong.
#[derive(Debug, thiserror::Error)]
#[error("compile the system-call filter")]
pub struct CompileFilterError(#[from] seccompiler::BackendError);

/// The programs in the order in which they are installed.
pub(crate) fn compile(groups: &[&[Call]]) -> Result<Vec<BpfProgram>, CompileFilterError> {
    let mut allowed = BTreeMap::new();
    let start = equal(libc::SYS_execveat, 0, PROGRAM_DESCRIPTOR.unsigned_abs());
    rules(groups.iter().copied().flatten().chain([&start]), &mut allowed)?;
    let list =
        SeccompFilter::new(allowed, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?;
    let absent = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        TargetArch::x86_64,
    )?;
    // Most allow-lists do not contain `seccomp` itself, so the list comes last.
    Ok(vec![absent.try_into()?, list.try_into()?])
}

/// The calls as rules, by number.
pub(crate) fn rules<'a>(
    calls: impl Iterator<Item = &'a Call>,
    by_number: &mut BTreeMap<i64, Vec<SeccompRule>>,
) -> Result<(), CompileFilterError> {
    let mut unconditional = Vec::new();
    for call in calls {
        let rules = by_number.entry(call.number).or_default();
        match conditions(call.condition)? {
            none if none.is_empty() => unconditional.push(call.number),
            all => rules.push(SeccompRule::new(all)?),
        }
    }
    // No rule means "whatever the arguments", and wins over narrower entries of the same call.
    for number in unconditional {
        by_number.insert(number, Vec::new());
    }
    Ok(())
}

/// What must all hold.
fn conditions(condition: Condition) -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    let one = match condition {
        Condition::Always => return Ok(Vec::new()),
        Condition::Masked { argument, mask, value } => SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(u64::from(mask)),
            u64::from(value),
        )?,
        Condition::Null { argument } => {
            SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?
        }
        Condition::All(list) => {
            let parts = list.iter().map(|part| conditions(*part)).collect::<Result<Vec<_>, _>>()?;
            return Ok(parts.concat());
        }
    };
    Ok(vec![one])
}
