//! Builds the machine and runs it until it ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::pci::msix::Vector;
use devices::pci::{self, PciBus};
use devices::pvpanic::Pvpanic;
use devices::virtio::pci_transport::{NewTransportError, PciTransport};
use devices::virtio::{GuestMemory, VirtioDevice};
use vm_kvm::{MsiMessage, MsiVector, Vcpu, VcpuThread, Vm};
use vmm_sys_util::eventfd::EventFd;
use zone_protocol::vmm::End;

use crate::board::Board;
use crate::ending::Ending;
use crate::{layout, roles};

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

/// A machine under construction: everything but its processors.
pub(crate) struct Machine {
    pub(crate) vm: Vm,
    bus: PciBus,
    ending: Arc<Ending>,
}

impl Machine {
    /// A machine with a host bridge and a way to say that it panicked.
    pub(crate) fn new(vm: Vm) -> Result<Self, AttachError> {
        let ending = Arc::new(Ending::new()?);
        let mut bus = PciBus::default();
        bus.add(Box::new(pci::host_bridge::HostBridge::default()))?;
        let of_guest = Arc::clone(&ending);
        let panicked = Arc::new(move || of_guest.end(End::Panic));
        let address = bar(bus.next_number()?);
        bus.add(Box::new(Pvpanic::new(address, panicked)))?;
        Ok(Self { vm, bus, ending })
    }

    /// Puts a virtio device onto the bus and binds its queues to the guest's notifications.
    pub(crate) fn attach(&mut self, device: Box<dyn VirtioDevice>) -> Result<(), AttachError> {
        let address = bar(self.bus.next_number()?);
        let router = self.vm.msi_router();
        let vectors = (0..PciTransport::vectors(&*device))
            .map(|_| Ok(Arc::new(KvmVector(router.vector()?)) as Arc<dyn Vector>))
            .collect::<io::Result<Vec<_>>>()?;
        let memory = GuestMemory::new(self.vm.ram().memory.clone());
        let transport = PciTransport::new(device, memory, vectors, address)?;
        for (kick, offset) in transport.notifications() {
            self.vm.notify_on_write(kick, u64::from(address) + offset)?;
        }
        self.bus.add(Box::new(transport))?;
        Ok(())
    }

    /// Lets the processors run.
    pub(crate) fn start(self, vcpus: Vec<Vcpu>) -> io::Result<Running> {
        let Self { vm, bus, ending } = self;
        let board = Arc::new(Board::new(bus, Arc::clone(&ending)));
        let mut running = Running { _vm: vm, board, ending, threads: Vec::new() };
        let started = roles::as_processors(|| {
            vcpus.into_iter().try_for_each(|vcpu| {
                let of_processor = Arc::clone(&running.ending);
                let handler = Arc::<Board>::clone(&running.board);
                let thread = vcpu.start(handler, move |reason| of_processor.processor_ended(reason))?;
                running.threads.push(thread);
                Ok(())
            })
        });
        if let Err(error) = started.and_then(|result: io::Result<()>| result) {
            running.ending.end(End::Failed("a processor's thread".to_owned()));
            running.stop();
            return Err(error);
        }
        Ok(running)
    }
}

/// A machine that runs.
pub(crate) struct Running {
    _vm: Vm,
    pub(crate) board: Arc<Board>,
    pub(crate) ending: Arc<Ending>,
    threads: Vec<VcpuThread>,
}

impl Running {
    /// Stops processors and devices. When this returns no thread touches the guest's memory any more.
    pub(crate) fn stop(self) {
        for thread in &self.threads {
            thread.kick();
        }
        let mut exits = (0_u64, 0_u64, 0_u64);
        for thread in self.threads {
            let counters = thread.counters();
            exits.0 += counters.port.load(Ordering::Relaxed);
            exits.1 += counters.memory.load(Ordering::Relaxed);
            exits.2 += counters.other.load(Ordering::Relaxed);
            let _reason = thread.join();
        }
        self.board.bus.stop();
        let missed = self.board.missed.load(Ordering::Relaxed);
        tracing::info!(port = exits.0, memory = exits.1, other = exits.2, missed, "exits to the VMM");
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
