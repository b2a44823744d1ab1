//! Which accelerator makes a host with a working /dev/kvm (DESIGN.md, "The testing ground").

use std::path::Path;

/// How QEMU runs the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor's own virtualization.
    Kvm,
    /// QEMU's emulator, with emulated SVM: slower, but real KVM runs inside.
    Emulated,
}

impl Accelerator {
    /// The right one for this machine. /dev/kvm alone says nothing: a KVM that only interprets exists, and
    /// stock kernels do not boot on it.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let usable =
            rustix::fs::access("/dev/kvm", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK);
        let cpuinfo = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
        if usable.is_ok() { Self::of_cpuinfo(&cpuinfo) } else { Self::Emulated }
    }

    /// The right one for a machine with this /proc/cpuinfo and a /dev/kvm that opens.
    #[must_use]
    pub fn of_cpuinfo(cpuinfo: &str) -> Self {
        let virtualizes = cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.trim() == "flags")
            .any(|(_, flags)| flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
        if virtualizes { Self::Kvm } else { Self::Emulated }
    }

    /// QEMU's arguments for it.
    #[must_use]
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Emulated => &["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "EPYC,+svm"],
        }
    }

    /// How many times longer a deadline must be than on a fast machine.
    #[must_use]
    pub fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Emulated => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processor_flags_count() {
        let check = |cpuinfo: &str, expected| assert_eq!(Accelerator::of_cpuinfo(cpuinfo), expected);
        check("flags\t\t: fpu svm sse\n", Accelerator::Kvm);
        check("flags\t\t: fpu vmx\n", Accelerator::Kvm);
        check("flags\t\t: fpu sse\nvmx flags\t: vnmi\n", Accelerator::Emulated);
        check("flags : fpu svm_lock\n", Accelerator::Emulated);
        check("", Accelerator::Emulated);
    }
}
