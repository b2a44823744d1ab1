//! What CPUID tells a guest: what KVM supports here, plus each processor's place and the frequency of its clocks.
//!
//! Topology: one package, one thread a core, one last-level cache. Hidden are nested virtualisation, and what only
//! firmware or the host can use: machine checks (the host handles them) and memory type ranges (a guest's
//! have no effect; PAT stays). A guest that sees them reads hundreds of their registers when it boots, an exit each.
//! The frequencies of TSC and APIC timer are in the leaves of Intel (15h, 16h, where this processor has them) and
//! of hypervisors (4000_0010h), so that no guest calibrates one against a timer that is not there.

use kvm_bindings::kvm_cpuid_entry2;

/// Leaf 1 ECX: VMX.
const VMX: u32 = 1 << 5;
/// Leaf 1 ECX: the local APIC's timer takes a TSC deadline. KVM has it whenever its irqchip is in use, but
/// does not report it among the supported bits.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX and leaf 8000_0001h EDX: machine check exception, memory type ranges, machine check architecture.
const FIRMWARE_ONLY: u32 = 1 << 7 | 1 << 12 | 1 << 14;
/// Leaf 1 EDX: more than one logical processor in the package.
const HTT: u32 = 1 << 28;
/// Leaf 8000_0001h ECX: SVM.
const SVM: u32 = 1 << 2;

/// Frequency of the local APICs' timer in KVM, in kHz.
const APIC_TIMER_KHZ: u32 = 1_000_000;
/// The hypervisor's leaf with the frequencies, in kHz: TSC in EAX, APIC timer in EBX. VMware made it, others follow.
const HYPERVISOR_TIMING: u32 = 0x4000_0010;
/// The hypervisor's first leaf: the highest one in EAX, its name in the other registers.
const HYPERVISOR_FIRST: u32 = 0x4000_0000;

/// A processor's place among its siblings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its number, which is its APIC id too.
    pub(crate) index: u8,
    /// How many there are.
    pub(crate) count: u8,
    /// KVM offers the deadline timer.
    pub(crate) tsc_deadline: bool,
    /// Frequency of its time stamp counter; zero when KVM does not say.
    pub(crate) tsc_khz: u32,
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
    add_timing(&mut entries, place);
    for entry in &mut entries {
        adapt(entry, place);
    }
    entries
}

/// Says how fast the clocks run, if KVM says it.
fn add_timing(entries: &mut Vec<kvm_cpuid_entry2>, place: Place) {
    let hypervisor = entries.iter().any(|entry| entry.function == HYPERVISOR_FIRST);
    if place.tsc_khz == 0 || !hypervisor {
        return;
    }
    entries.retain(|entry| entry.function != HYPERVISOR_TIMING);
    entries.push(kvm_cpuid_entry2 {
        function: HYPERVISOR_TIMING,
        eax: place.tsc_khz,
        ebx: APIC_TIMER_KHZ,
        ..Default::default()
    });
    for entry in entries {
        match entry.function {
            HYPERVISOR_FIRST => entry.eax = entry.eax.max(HYPERVISOR_TIMING),
            // TSC frequency = crystal * EBX / EAX; the crystal also drives the APIC timer.
            0x15 => {
                (entry.eax, entry.ebx, entry.ecx) = (APIC_TIMER_KHZ, place.tsc_khz, APIC_TIMER_KHZ * 1000);
            }
            // Base and highest frequency in MHz: where turbo is unknown, both are the TSC's.
            0x16 => (entry.eax, entry.ebx, entry.ecx) = (place.tsc_khz / 1000, place.tsc_khz / 1000, 100),
            _ => {}
        }
    }
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
            entry.edx &= !(FIRMWARE_ONLY | HTT);
            if count > 1 {
                entry.edx |= HTT;
            }
            entry.ebx = (entry.ebx & 0xFFFF) | (1_u32 << place.id_bits()) << 16 | index << 24;
        }
        // Intel caches: nobody shares a core's caches, everybody shares the last level.
        4 if entry.eax & 0x1F != 0 => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { (1_u32 << place.id_bits()) - 1 } else { 0 };
            let cores = (1_u32 << place.id_bits()) - 1;
            entry.eax = (entry.eax & 0x3FFF) | sharing << 14 | cores << 26;
        }
        0x8000_0001 => (entry.ecx, entry.edx) = (entry.ecx & !SVM, entry.edx & !FIRMWARE_ONLY),
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
        Place { index, count, tsc_deadline: true, tsc_khz: 2_500_123 }
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
    fn clocks_and_what_is_hidden() {
        let supported =
            [leaf(0, 0x16), leaf(1, 0), leaf(0x15, 0), leaf(0x16, 0), leaf(HYPERVISOR_FIRST, 0x4000_0001)];
        let entries = for_processor(&supported, place(0, 1));
        assert_eq!(get(&entries, 1, 0).edx & FIRMWARE_ONLY, 0);
        let crystal = get(&entries, 0x15, 0);
        let tsc = u64::from(crystal.ecx) * u64::from(crystal.ebx) / u64::from(crystal.eax);
        assert_eq!(tsc, 2_500_123_000);
        assert_eq!(get(&entries, 0x16, 0).eax, 2500);
        assert_eq!(get(&entries, HYPERVISOR_FIRST, 0).eax, HYPERVISOR_TIMING);
        let timing = get(&entries, HYPERVISOR_TIMING, 0);
        assert_eq!((timing.eax, timing.ebx), (2_500_123, 1_000_000));
        let unknown = Place { tsc_khz: 0, ..place(0, 1) };
        assert!(for_processor(&supported, unknown).iter().all(|entry| entry.function != HYPERVISOR_TIMING));
    }

    #[test]
    fn leaves_above_the_highest_are_not_invented() {
        let entries = for_processor(&[leaf(0, 4), leaf(1, 0)], place(0, 1));
        assert!(entries.iter().all(|entry| entry.function < 0xB));
    }
}
