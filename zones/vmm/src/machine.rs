//! Builds the machine, runs it until it ends, and returns it to its state at power-on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::pci::host_bridge::HostBridge;
use devices::pci::msix::Vector;
use devices::pci::{self, PciBus};
use devices::pvpanic::Pvpanic;
use devices::virtio::pci_transport::{NewTransportError, PciTransport};
use devices::virtio::threads::Threads;
use devices::virtio::{GuestMemory, VirtioDevice};
use vm_kvm::{BuildVmError, GuestRam, Kvm, MsiMessage, MsiVector, Vcpu, VcpuThread, Vm};
use vmm_sys_util::eventfd::EventFd;
use zone_protocol::vmm::End;

use crate::board::Board;
use crate::ending::Ending;
use crate::layout;
use crate::roles::{DeviceThreads, Maker};
use crate::tpm::{self, Tpm};

/// Why a device did not get onto the bus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// No place left.
    #[error(transparent)]
    Bus(#[from] pci::BusFull),
    /// The transport refuses it.
    #[error(transparent)]
    Transport(#[from] NewTransportError),
    /// Event descriptors, or KVM's end of them.
    #[error("event descriptors")]
    Event(#[from] io::Error),
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewMachineError {
    /// KVM's part.
    #[error(transparent)]
    Vm(#[from] BuildVmError),
    /// The devices that every machine has.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// Why a machine did not get back to its state at power-on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResetError {
    /// The guest's memory was not emptied.
    #[error("empty the guest's memory")]
    Memory(#[source] io::Error),
    /// KVM's part.
    #[error(transparent)]
    Vm(#[from] BuildVmError),
}

/// A machine: everything but its processors, which are made for each run.
pub(crate) struct Machine {
    pub(crate) vm: Vm,
    pub(crate) board: Arc<Board>,
    maker: Arc<Maker>,
    kvm: Kvm,
}

impl Machine {
    /// A machine with a host bridge and a way to say that it panicked. `maker` makes its threads.
    pub(crate) fn new(kvm: Kvm, ram: GuestRam, maker: Arc<Maker>) -> Result<Self, NewMachineError> {
        let vm = Vm::new(&kvm, ram)?;
        let ending = Arc::new(Ending::new().map_err(AttachError::Event)?);
        let mut bus = PciBus::default();
        bus.add(Box::new(HostBridge::default())).map_err(AttachError::Bus)?;
        let of_guest = Arc::clone(&ending);
        let panicked = Arc::new(move || of_guest.end(End::Panic));
        let address = bar(bus.next_number().map_err(AttachError::Bus)?);
        bus.add(Box::new(Pvpanic::new(address, panicked))).map_err(AttachError::Bus)?;
        let board = Arc::new(Board::new(bus, ending, vm.read_pages()));
        Ok(Self { vm, board, maker, kvm })
    }

    /// Where its devices get their threads from.
    pub(crate) fn threads(&self) -> Arc<dyn Threads> {
        Arc::new(DeviceThreads { maker: Arc::clone(&self.maker), ending: Arc::clone(self.ending()) })
    }

    /// Puts a virtio device onto the bus and binds its queues to the guest's notifications.
    ///
    /// # Panics
    /// When the machine runs.
    pub(crate) fn attach(&mut self, device: Box<dyn VirtioDevice>) -> Result<(), AttachError> {
        let threads = self.threads();
        let bus =
            &mut Arc::get_mut(&mut self.board).expect("only a machine that does not run is changed").bus;
        let address = bar(bus.next_number()?);
        let router = self.vm.msi_router();
        let vectors = (0..PciTransport::vectors(&*device))
            .map(|_| Ok(Arc::new(KvmVector(router.vector()?)) as Arc<dyn Vector>))
            .collect::<io::Result<Vec<_>>>()?;
        let memory = GuestMemory::new(self.vm.ram().memory.clone());
        let transport = PciTransport::new(device, memory, vectors, address, threads)?;
        for (kick, offset) in transport.notifications() {
            self.vm.notify_on_write(kick, u64::from(address) + offset)?;
        }
        bus.add(Box::new(transport))?;
        Ok(())
    }

    /// Puts a TPM onto the board: its thread has a socket for each run.
    ///
    /// # Panics
    /// When the machine runs.
    pub(crate) fn attach_tpm(&mut self, tpm: Arc<Tpm>) {
        let board = Arc::get_mut(&mut self.board).expect("only a machine that does not run is changed");
        board.tpm = Some(tpm);
    }

    /// Connects the TPM to the socket of the coming run.
    pub(crate) fn connect_tpm(&self, data: OwnedFd) -> io::Result<Option<tpm::Connected>> {
        let tpm = self.board.tpm.as_ref();
        tpm.map(|tpm| tpm.connect(data, &self.maker, self.ending())).transpose()
    }

    /// How this run ends.
    pub(crate) fn ending(&self) -> &Arc<Ending> {
        &self.board.ending
    }

    /// Lets `vcpus` run.
    pub(crate) fn start(&self, vcpus: Vec<Vcpu>) -> io::Result<Running> {
        self.board.show_configuration();
        let mut running = Running { board: Arc::clone(&self.board), threads: Vec::new() };
        let ending = self.ending();
        let started = vcpus.into_iter().try_for_each(|vcpu| {
            let of_processor = Arc::clone(ending);
            let handler = Arc::<Board>::clone(&running.board);
            let spawn = |name: String, work| self.maker.start(jail::roles::VCPU, &name, work);
            let thread = vcpu.start(handler, spawn, move |reason| of_processor.processor_ended(reason))?;
            running.threads.push(thread);
            Ok(())
        });
        if let Err(error) = started {
            self.ending().end(End::Failed("a processor's thread".to_owned()));
            running.stop();
            return Err(error);
        }
        Ok(running)
    }

    /// Back to the state at power-on, with empty memory. Nothing runs: [`Running::stop`] came before.
    pub(crate) fn reset(&mut self) -> Result<(), ResetError> {
        self.vm.ram().clear().map_err(ResetError::Memory)?;
        Ok(self.vm.reset(&self.kvm)?)
    }
}

/// The processors of a machine that runs.
pub(crate) struct Running {
    board: Arc<Board>,
    threads: Vec<VcpuThread>,
}

/// How often processors left the guest for this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exits {
    port: u64,
    memory: u64,
    other: u64,
    /// Accesses that found nothing.
    missed: u64,
}

impl Running {
    /// Stops all processors between two instructions. None runs when this returns.
    pub(crate) fn pause(&self) {
        self.threads.iter().for_each(VcpuThread::pause);
        self.threads.iter().for_each(VcpuThread::wait_until_parked);
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        self.threads.iter().for_each(VcpuThread::resume);
    }

    /// Ends the processors and returns every device to its state at power-on. When this returns no thread touches the
    /// guest's memory any more.
    pub(crate) fn stop(self) -> Exits {
        self.threads.iter().for_each(VcpuThread::kick);
        let mut exits = Exits::default();
        for thread in self.threads {
            let counters = thread.counters();
            let _reason = thread.join();
            exits.port += counters.port.load(Ordering::Relaxed);
            exits.memory += counters.memory.load(Ordering::Relaxed);
            exits.other += counters.other.load(Ordering::Relaxed);
        }
        self.board.bus.reset();
        exits.missed = self.board.take_missed();
        exits
    }
}

/// Where device `number` has its BAR.
fn bar(number: u8) -> u32 {
    layout::BARS + u32::try_from(pci::bar_offset(number)).expect("all BARs lie below 4 GiB")
}

/// KVM's vector as the device models see it.
struct KvmVector(MsiVector);

impl Vector for KvmVector {
    fn unmute(&self, address: u64, data: u32) -> io::Result<()> {
        self.0.unmute(MsiMessage { address, data })
    }

    fn mute(&self) -> io::Result<()> {
        self.0.mute()
    }

    fn pending(&self) -> bool {
        self.0.pending()
    }

    fn discard_pending(&self) {
        self.0.discard_pending();
    }

    fn trigger(&self) {
        // A count that is full says already that there is an interrupt.
        let _full = self.0.trigger();
    }

    fn descriptor(&self) -> io::Result<EventFd> {
        self.0.descriptor()
    }
}
