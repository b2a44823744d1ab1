//! From descriptors and [`Config`] to a machine: one small function a device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::{Context, ensure};
use devices::virtio::SharedRegion;
use devices::virtio::balloon::Balloon;
use devices::virtio::block::{Access, Block, Trouble};
use devices::virtio::console::Console;
use devices::virtio::net::{Net, NetControl};
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use handover::record::LONGEST;
use ipc::Channel;
use jail::inherited::Inherited;
use vm_kvm::{GuestRam, Kvm, Vcpu};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use zeroize::Zeroizing;
use zone_protocol::agent::{GUEST_CID, PORT};
use zone_protocol::vmm::{Config, Connected, Disk};

use crate::load::{self, Images};
use crate::machine::Machine;
use crate::roles::Maker;
use crate::tpm::Tpm;

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

/// Everything of a zone that outlives a reset of its machine.
pub(crate) struct Zone {
    pub(crate) machine: Machine,
    /// For whoever brings the NIC another back end.
    pub(crate) network: Option<NetControl>,
    /// Each disk's serial, and what tells that its file failed.
    pub(crate) disks: Vec<(String, Trouble)>,
    /// Disks that are to come.
    late: Vec<Disk>,
    firmware: File,
    kernel: File,
    initrd: File,
    config: Config,
}

impl Zone {
    /// Builds the machine with every device on the bus, and nothing in its memory.
    pub(crate) fn new(inherited: &mut Inherited, config: Config, maker: Arc<Maker>) -> anyhow::Result<Self> {
        let kvm = Kvm::from_descriptor(inherited.take("kvm")?)?;
        let ram = GuestRam::new(u64::from(config.memory_mib) << 20)?;
        let mut machine = Machine::new(kvm, ram, maker)?;
        let firmware = File::from(inherited.take("firmware")?);
        let kernel = File::from(inherited.take("kernel")?);
        let initrd = File::from(inherited.take("initrd")?);
        attach_console(&mut machine, inherited)?;
        let disks = attach_disks(&mut machine, inherited, &config)?;
        machine.attach(Box::new(Rng::new())).context("attach random numbers")?;
        attach_vsock(&mut machine, inherited)?;
        let network = attach_network(&mut machine, inherited, &config)?;
        if config.record.is_none() {
            machine.attach_tpm(Arc::new(Tpm::new().context("TPM")?));
        }
        let balloon = Balloon::new(regions(machine.vm.ram())?);
        machine.attach(Box::new(balloon)).context("attach balloon")?;
        let late = config.disks.iter().filter(|disk| disk.late).cloned().collect();
        Ok(Self { machine, network, disks, late, firmware, kernel, initrd, config })
    }

    /// Fills the empty memory with what the machine starts from, and makes its processors.
    pub(crate) fn load(&mut self) -> anyhow::Result<Vec<Vcpu>> {
        if let Some(record) = &self.config.record {
            self.machine.board.firmware.begin(&record.0);
        }
        let images = Images {
            firmware: &mut self.firmware,
            kernel: &mut self.kernel,
            initrd: &mut self.initrd,
            command_line: &self.config.command_line,
            tpm: self.config.record.is_none(),
        };
        let entry = load::load(self.machine.vm.ram(), images, self.config.vcpus)?;
        Ok(self.machine.vm.vcpus(self.config.vcpus, entry)?)
    }
}

impl Zone {
    /// Puts this start's login record, out of a pipe, into the mailbox.
    pub(crate) fn take_record(&self, pipe: &OwnedFd) -> anyhow::Result<()> {
        // One byte more shows a record that is too long.
        let mut record = Zeroizing::new([0; LONGEST + 1]);
        let length = rustix::io::read(pipe, &mut record[..]).context("read the login record")?;
        ensure!((1..=LONGEST).contains(&length), "login record of {length} bytes");
        self.machine.board.firmware.begin(record.get(..length).unwrap_or_default());
        Ok(())
    }

    /// Attaches the disks that came late, once.
    pub(crate) fn attach_late(&mut self, files: Vec<OwnedFd>) -> anyhow::Result<()> {
        let late: Vec<_> = std::mem::take(&mut self.late);
        ensure!(files.len() == late.len(), "{} disks came, {} are missing", files.len(), late.len());
        for (disk, file) in late.into_iter().zip(files) {
            let trouble = attach_disk(&mut self.machine, File::from(file), &disk, self.config.vcpus)?;
            self.disks.push((disk.serial, trouble));
        }
        Ok(())
    }
}

/// Guest memory as other processes and the balloon see it.
fn regions(ram: &GuestRam) -> anyhow::Result<Vec<SharedRegion>> {
    ram.memory
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
        .collect::<io::Result<_>>()
        .context("share guest memory")
}

/// The guest's console, output only.
fn attach_console(machine: &mut Machine, inherited: &mut Inherited) -> anyhow::Result<()> {
    let console = Console::new(inherited.take("console")?).context("console")?;
    machine.attach(Box::new(console)).context("attach console")
}

/// The disks that are there, in the configuration's order.
fn attach_disks(
    machine: &mut Machine,
    inherited: &mut Inherited,
    config: &Config,
) -> anyhow::Result<Vec<(String, Trouble)>> {
    let mut troubles = Vec::new();
    for (number, disk) in config.disks.iter().enumerate().filter(|(_, disk)| !disk.late) {
        let file = File::from(inherited.take(&format!("disk{number}"))?);
        troubles.push((disk.serial.clone(), attach_disk(machine, file, disk, config.vcpus)?));
    }
    Ok(troubles)
}

fn attach_disk(machine: &mut Machine, file: File, disk: &Disk, vcpus: u8) -> anyhow::Result<Trouble> {
    let access = if disk.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let name = || format!("disk {:?}", disk.serial);
    let block = Block::new(file, access, &disk.serial).with_context(name)?;
    // A queue for each processor: none waits for another one's request.
    let block = block.with_queues(vcpus.into());
    let trouble = block.trouble().with_context(name)?;
    machine.attach(Box::new(block)).with_context(|| format!("attach {}", name()))?;
    Ok(trouble)
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
fn attach_network(
    machine: &mut Machine,
    inherited: &mut Inherited,
    config: &Config,
) -> anyhow::Result<Option<NetControl>> {
    let Some(mac) = config.network else { return Ok(None) };
    let stream = UnixStream::from(inherited.take("net")?);
    let regions = regions(machine.vm.ram())?;
    let net = Net::new(stream, mac, regions, machine.threads()).context("back end of the network")?;
    let control = net.control();
    machine.attach(Box::new(net)).context("attach network")?;
    Ok(Some(control))
}
