//! What CPUID tells a guest: what KVM supports here, less nested virtualisation, plus each processor's place.
//!
//! Topology: one package, one thread a core. Time leaves and the hypervisor's leaves (kvmclock) stay as KVM
//! made them, so that the guest needs no calibration against a timer that is not there.

use kvm_bindings::kvm_cpuid_entry2;

/// Leaf 1 ECX: VMX.
const VMX: u32 = 1 << 5;
/// Leaf 1 ECX: the local APIC's timer takes a TSC deadline. KVM has it whenever its irqchip is in use, but
/// does not report it among the supported bits.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: more than one logical processor in the package.
const HTT: u32 = 1 << 28;
/// Leaf 8000_0001h ECX: SVM.
const SVM: u32 = 1 << 2;

/// A processor's place among its siblings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its number, which is its APIC id too.
    pub(crate) index: u8,
    /// How many there are.
    pub(crate) count: u8,
    /// KVM offers the deadline timer.
    pub(crate) tsc_deadline: bool,
}

impl Place {
    /// Bits of an APIC id that number processors within the package.
    fn id_bits(self) -> u32 {
        u32::from(self.count).next_power_of_two().trailing_zeros()
    }
}

/// Adapts KVM's supported leaves to one processor.
pub(crate) fn for_processor(supported: &[kvm_cpuid_entry2], place: Place) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<_> =
        supported.iter().filter(|entry| !matches!(entry.function, 0xB | 0x1F)).copied().collect();
    let highest = entries.iter().find(|entry| entry.function == 0).map_or(0, |entry| entry.eax);
    if highest >= 0xB {
        entries.extend(extended_topology(0xB, place));
        if highest >= 0x1F {
            entries.extend(extended_topology(0x1F, place));
        }
    }
    for entry in &mut entries {
        adapt(entry, place);
    }
    entries
}

/// Changes one leaf.
fn adapt(entry: &mut kvm_cpuid_entry2, place: Place) {
    let index = u32::from(place.index);
    let count = u32::from(place.count);
    match entry.function {
        1 => {
            entry.ecx &= !VMX;
            entry.ecx |= HYPERVISOR;
            if place.tsc_deadline {
                entry.ecx |= TSC_DEADLINE;
            }
            entry.edx = if count > 1 { entry.edx | HTT } else { entry.edx & !HTT };
            entry.ebx = (entry.ebx & 0xFFFF) | (1_u32 << place.id_bits()) << 16 | index << 24;
        }
        // Intel caches: nobody shares a core's caches, everybody shares the last level.
        4 if entry.eax & 0x1F != 0 => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { (1_u32 << place.id_bits()) - 1 } else { 0 };
            let cores = (1_u32 << place.id_bits()) - 1;
            entry.eax = (entry.eax & 0x3FFF) | sharing << 14 | cores << 26;
        }
        0x8000_0001 => entry.ecx &= !SVM,
        0x8000_0008 => entry.ecx = (entry.ecx & !0xF0FF) | (count - 1) | place.id_bits() << 12,
        // AMD nested virtualisation: its details go with the feature bit.
        0x8000_000A => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        // AMD caches, as leaf 4.
        0x8000_001D if entry.eax & 0x1F != 0 => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { count - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3FFF) | sharing << 14;
        }
        // AMD topology: one thread a core, one node.
        0x8000_001E => (entry.eax, entry.ebx, entry.ecx) = (index, index, 0),
        _ => {}
    }
}

/// The levels of leaf 0Bh or 1Fh: threads of a core, cores of the package, end.
fn extended_topology(function: u32, place: Place) -> [kvm_cpuid_entry2; 3] {
    let level = |number: u32, kind: u32, shift: u32, processors: u32| kvm_cpuid_entry2 {
        function,
        index: number,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: number | kind << 8,
        edx: u32::from(place.index),
        ..Default::default()
    };
    [level(0, 1, 0, 1), level(1, 2, place.id_bits(), u32::from(place.count)), level(2, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, eax, ecx: u32::MAX, ..Default::default() }
    }

    fn place(index: u8, count: u8) -> Place {
        Place { index, count, tsc_deadline: true }
    }

    fn get(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries.iter().find(|entry| entry.function == function && entry.index == index).unwrap()
    }

    #[test]
    fn nested_virtualisation_is_hidden() {
        let supported = [leaf(0, 1), leaf(1, 0), leaf(0x8000_0001, 0), leaf(0x8000_000A, 1)];
        let entries = for_processor(&supported, place(0, 1));
        assert_eq!(get(&entries, 1, 0).ecx & VMX, 0);
        assert_eq!(get(&entries, 0x8000_0001, 0).ecx & SVM, 0);
        assert_eq!(get(&entries, 0x8000_000A, 0).ecx, 0);
    }

    #[test]
    fn every_processor_has_its_own_id_and_the_same_shape() {
        let supported = [leaf(0, 0x1F), leaf(1, 0), leaf(0xB, 7), leaf(0x8000_001E, 9)];
        for index in 0..3 {
            let entries = for_processor(&supported, place(index, 3));
            let id = u32::from(index);
            assert_eq!(get(&entries, 1, 0).ebx >> 24, id);
            assert_eq!((get(&entries, 1, 0).ebx >> 16) & 0xFF, 4);
            for function in [0xB, 0x1F] {
                let cores = get(&entries, function, 1);
                assert_eq!((cores.eax, cores.ebx, cores.edx), (2, 3, id));
            }
            assert_eq!(get(&entries, 0x8000_001E, 0).eax, id);
        }
        assert_eq!(for_processor(&supported, place(0, 3)).iter().filter(|e| e.function == 0xB).count(), 3);
    }

    #[test]
    fn leaves_above_the_highest_are_not_invented() {
        let entries = for_processor(&[leaf(0, 4), leaf(1, 0)], place(0, 1));
        assert!(entries.iter().all(|entry| entry.function < 0xB));
    }
}
