//! Starts the zone by QEMU: the machine types that could serve instead of our VMM, each as quick as its
//! options make it, with the devices that our VMM has.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use zone_protocol::agent::GUEST_CID;

use crate::sample::Contestant;

use super::{MEMORY_MIB, Started, Zone, agent, process};

/// Options of both microvms: a clock (the kernel waits seconds for one that is missing), none of the old
/// interrupt and timer chips, and no option ROM. ACPI stays on: Debian's kernel does not take virtio-mmio
/// devices from its command line, and finds PCIe by ACPI alone. qboot starts the kernel itself and
/// faster than SeaBIOS, which would need an option ROM for that.
const MICROVM: &str = "microvm,accel=kvm,acpi=on,rtc=on,pic=off,pit=off,isa-serial=off,x-option-roms=off,\
    auto-kernel-cmdline=off";

/// Version and command line of a peer.
pub(super) fn description(zone: &Zone, who: Contestant) -> anyhow::Result<(String, String)> {
    let output = qemu(zone).arg("--version").output().context("start QEMU")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "QEMU: {}", String::from_utf8_lossy(&output.stderr).trim());
    let first = text.lines().next().unwrap_or_default();
    let version = first.trim_start_matches("QEMU emulator version").trim().to_owned();
    let words = arguments(zone, Path::new("PRIVATE"), who, GUEST_CID);
    // The zone's own words say nothing about the peer.
    let shown: Vec<&str> = words
        .iter()
        .map(|word| if *word == zone.command_line { "COMMAND-LINE" } else { word.as_str() })
        .collect();
    Ok((version, format!("qemu-system-x86_64 {}", shown.join(" "))))
}

/// Starts it. Machines that run side by side differ in their `cid`.
pub(super) fn start(zone: &Zone, private: &Path, who: Contestant, cid: u32) -> anyhow::Result<Started> {
    let agent = agent::Source::listen()?;
    let mut command = qemu(zone);
    command.args(arguments(zone, private, who, cid));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().context("start QEMU")?;
    let output = process::Output::default();
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        output.follow(stdout);
        output.follow(stderr);
    }
    Ok(Started { child, helpers: Vec::new(), began, agent: Some(agent), output, held: Vec::new() })
}

/// QEMU with its own loader and libraries.
fn qemu(zone: &Zone) -> Command {
    let mut command = Command::new(zone.qemu.join("ld-linux-x86-64.so.2"));
    command.env_clear().arg("--library-path").arg(zone.qemu.join("lib"));
    command.arg(zone.qemu.join("qemu-system-x86_64")).arg("-L").arg(zone.qemu.join("firmware"));
    command
}

/// The command line after the program.
fn arguments(zone: &Zone, private: &Path, who: Contestant, cid: u32) -> Vec<String> {
    let machine: &[&str] = match who {
        Contestant::MicrovmMmio => &["-M", MICROVM, "-bios", "qboot.rom"],
        Contestant::MicrovmPcie => &["-M", &format!("{MICROVM},pcie=on"), "-bios", "qboot.rom"],
        Contestant::Q35 | Contestant::Ours => &["-M", "q35,accel=kvm"],
    };
    // Names of the devices on the machine's bus.
    let bus = match who {
        Contestant::MicrovmMmio => "device",
        Contestant::MicrovmPcie | Contestant::Q35 | Contestant::Ours => "pci",
    };
    let mut words: Vec<String> = machine.iter().map(|word| (*word).to_owned()).collect();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-cpu", "host", "-smp", "1"]);
    add(&["-m", &MEMORY_MIB.to_string(), "-kernel", &zone.kernel.to_string_lossy()]);
    add(&["-initrd", &zone.initrd.to_string_lossy(), "-append", &zone.command_line]);
    if bus == "device" {
        add(&["-global", "virtio-mmio.force-legacy=false"]);
    }
    add(&["-chardev", "stdio,id=console,signal=off", "-device", &format!("virtio-serial-{bus}")]);
    add(&["-device", "virtconsole,chardev=console"]);
    for (serial, path, more) in [("template", zone.root.as_path(), ",readonly=on"), ("private", private, "")]
    {
        add(&["-drive", &format!("if=none,id={serial},format=raw,file={}{more}", path.display())]);
        add(&["-device", &format!("virtio-blk-{bus},drive={serial},serial={serial}")]);
    }
    add(&["-device", &format!("virtio-rng-{bus}")]);
    add(&["-device", &format!("vhost-vsock-{bus},guest-cid={cid}")]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(who: Contestant) -> String {
        let zone = Zone {
            vmm: "v".into(),
            vpnd: "n".into(),
            qemu: "q".into(),
            firmware: "zone_fw".into(),
            kernel: "/bench/vmlinux".into(),
            initrd: "/bench/initrd".into(),
            root: "/bench/root.img".into(),
            private: "/bench/private.img".into(),
            command_line: "quiet".to_owned(),
        };
        arguments(&zone, Path::new("/run/private.img"), who, 7).join(" ")
    }

    #[test]
    fn each_machine_has_the_same_devices_on_its_own_bus() {
        for (who, bus) in
            [(Contestant::MicrovmMmio, "device"), (Contestant::MicrovmPcie, "pci"), (Contestant::Q35, "pci")]
        {
            let words = words(who);
            for device in ["virtio-serial", "virtio-blk", "virtio-rng", "vhost-vsock"] {
                assert!(words.contains(&format!("-device {device}-{bus}")), "{words}");
            }
            assert!(words.contains("guest-cid=7"), "{words}");
            assert_eq!(words.matches(" -device ").count(), 6, "{words}");
            assert!(words.contains("file=/run/private.img -device"), "{words}");
            assert!(words.contains("file=/bench/root.img,readonly=on"), "{words}");
        }
    }
}
