//! A precaution for hosts that run in QEMU's emulator; on every other machine it does nothing.
//!
//! The kernel patches its own code at run time where a static key turns: it puts a breakpoint over the first byte,
//! tells all processors, writes the rest, and takes the breakpoint away. Processors of QEMU's emulator (seen with
//! 10.0 and 11.1, one host thread each) may translate the code in between and keep that for ever: one of them then
//! meets a breakpoint that is long gone ("Oops: int3"), or goes the way that the key no longer says. KVM has such
//! keys on the path of every processor of every zone (`preempt_notifier_key` counts machines, `apic_sw_disabled`
//! those whose interrupt controller is off, as at each power-on), so every start of a zone was a throw of dice.
//!
//! A machine that never runs holds these keys where they are as long as init lives, made before another processor has
//! anything to do.

use anyhow::Context;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::console::Console;

/// The hypervisor's first leaf of CPUID: its name in EBX, ECX and EDX.
const HYPERVISOR: u32 = 0x4000_0000;
/// How QEMU's emulator calls itself there.
const NAME: [u8; 12] = *b"TCGTCGTCGTCG";

/// What holds the keys.
#[derive(Debug)]
pub(crate) struct HeldKeys {
    _machine: VmFd,
    _processor: VcpuFd,
}

/// Holds KVM's keys if this machine is emulated and has KVM.
pub(crate) fn hold_keys(console: &Console) -> Option<HeldKeys> {
    if !is_emulated() {
        return None;
    }
    match hold() {
        Ok(held) => {
            console.say("emulated processors: KVM's code stays as it is from now on");
            Some(held)
        }
        Err(error) => {
            console.say(format_args!("emulated processors, and KVM's code will change at run time: {error:#}"));
            None
        }
    }
}

fn is_emulated() -> bool {
    let leaf = std::arch::x86_64::__cpuid(HYPERVISOR);
    let name = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    name.concat() == NAME
}

fn hold() -> anyhow::Result<HeldKeys> {
    let machine = Kvm::new().and_then(|kvm| kvm.create_vm()).context("make a machine")?;
    machine.create_irq_chip().context("make its interrupt controllers")?;
    let processor = machine.create_vcpu(0).context("make its processor")?;
    Ok(HeldKeys { _machine: machine, _processor: processor })
}
