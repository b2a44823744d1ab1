//! From descriptors and [`Config`] to a machine: one small function a device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use anyhow::{Context, ensure};
use devices::virtio::block::{Access, Block};
use devices::virtio::console::Console;
use devices::virtio::net::{Net, SharedRegion};
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use ipc::Channel;
use jail::inherited::Inherited;
use vm_kvm::{GuestRam, Kvm, Vcpu, Vm};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use zone_protocol::agent::{GUEST_CID, PORT};
use zone_protocol::vmm::{Config, Connected};

use crate::load::{self, Images};
use crate::machine::Machine;

/// A configuration is a few strings; more is not ours.
const MAX_CONFIG: u64 = 64 * 1024;

/// Reads the configuration.
pub(crate) fn read(inherited: &mut Inherited) -> anyhow::Result<Config> {
    let file = File::from(inherited.take("config")?);
    let length = file.metadata().context("length of the configuration")?.len();
    ensure!(length <= MAX_CONFIG, "configuration of {length} bytes, at most {MAX_CONFIG} are taken");
    let mut bytes = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut bytes, 0).context("read the configuration")?;
    let (config, rest) = postcard::take_from_bytes(&bytes).context("decode the configuration")?;
    ensure!(rest.is_empty(), "{} bytes follow the configuration", rest.len());
    Ok(config)
}

/// Builds the machine, with everything loaded and every device on the bus.
pub(crate) fn build(inherited: &mut Inherited, config: &Config) -> anyhow::Result<(Machine, Vec<Vcpu>)> {
    let kvm = Kvm::from_descriptor(inherited.take("kvm")?)?;
    let ram = GuestRam::new(u64::from(config.memory_mib) << 20)?;
    let vm = Vm::new(&kvm, ram)?;
    let images = Images {
        kernel: &mut File::from(inherited.take("kernel")?),
        initrd: &mut File::from(inherited.take("initrd")?),
        command_line: &config.command_line,
    };
    let entry = load::load(vm.ram(), images, config.vcpus)?;
    let vcpus = vm.vcpus(config.vcpus, entry)?;
    let mut machine = Machine::new(vm)?;
    attach_console(&mut machine, inherited)?;
    attach_disks(&mut machine, inherited, config)?;
    machine.attach(Box::new(Rng::new())).context("attach random numbers")?;
    attach_vsock(&mut machine, inherited)?;
    attach_network(&mut machine, inherited, config)?;
    Ok((machine, vcpus))
}

/// The guest's console, output only.
fn attach_console(machine: &mut Machine, inherited: &mut Inherited) -> anyhow::Result<()> {
    let console = Console::new(inherited.take("console")?).context("console")?;
    machine.attach(Box::new(console)).context("attach console")
}

/// The disks, in the configuration's order.
fn attach_disks(machine: &mut Machine, inherited: &mut Inherited, config: &Config) -> anyhow::Result<()> {
    for (number, disk) in config.disks.iter().enumerate() {
        let name = format!("disk{number}");
        let file = File::from(inherited.take(&name)?);
        let access = if disk.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let block = Block::new(file, access, &disk.serial).with_context(|| name.clone())?;
        machine.attach(Box::new(block)).with_context(|| format!("attach {name}"))?;
    }
    Ok(())
}

/// The way to the agent: each connection that the guest makes becomes a socket at the far end of `agent`.
fn attach_vsock(machine: &mut Machine, inherited: &mut Inherited) -> anyhow::Result<()> {
    let agent = Channel::from_descriptor(inherited.take("agent")?);
    // The device's thread must not wait for a reader that is busy: the guest's connection is refused then.
    agent.set_nonblocking().context("agent channel")?;
    let connect = move |port, socket: OwnedFd| match agent.send(&Connected { port }, &[socket.as_fd()]) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(port, %error, "connection of the guest refused");
            false
        }
    };
    let vsock = Vsock::new(GUEST_CID, &[PORT], Box::new(connect));
    machine.attach(Box::new(vsock)).context("attach vsock")
}

/// The NIC, if the zone has a network.
fn attach_network(machine: &mut Machine, inherited: &mut Inherited, config: &Config) -> anyhow::Result<()> {
    let Some(mac) = config.network else { return Ok(()) };
    let stream = UnixStream::from(inherited.take("net")?);
    let ram = machine.vm.ram();
    let regions = ram
        .memory
        .iter()
        .map(|region| {
            let offset = region.file_offset().expect("guest memory is a file").start();
            Ok(SharedRegion {
                guest_address: region.start_addr().raw_value(),
                size: region.len(),
                offset,
                file: ram.file.try_clone()?,
            })
        })
        .collect::<io::Result<Vec<_>>>()
        .context("share guest memory")?;
    let net = Net::new(stream, mac, regions).context("back end of the network")?;
    machine.attach(Box::new(net)).context("attach network")
}
