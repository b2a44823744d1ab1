//! Message-signalled interrupts: a vector is an event descriptor that the kernel turns into a message.
//!
//! ```text
//!   muted --unmute(message)--> live: a write to the descriptor interrupts the guest, in the kernel
//!     ^                          |
//!     +---------- mute ----------+    writes stay in the descriptor's count and go out when unmuted
//! ```

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The in-kernel I/O APIC has the numbers below: no message may share one with its pins.
const FIRST_GSI: u32 = 24;

/// What the guest asked to be sent: an address in the local APICs' window and a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiMessage {
    /// Address of the write.
    pub address: u64,
    /// Its data.
    pub data: u32,
}

/// Hands out vectors and keeps the kernel's routing table.
#[derive(Debug)]
pub struct MsiRouter(Mutex<Routes>);

/// The table, and the machine that has it.
#[derive(Debug)]
struct Routes {
    vm: Arc<VmFd>,
    /// The route of vector number `FIRST_GSI + index`; `None` before its first unmute.
    messages: Vec<Option<MsiMessage>>,
}

impl MsiRouter {
    pub(crate) fn new(vm: Arc<VmFd>) -> Self {
        Self(Mutex::new(Routes { vm, messages: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the vectors, all of them muted, are another machine's.
    pub(crate) fn move_to(&self, vm: Arc<VmFd>) {
        let mut routes = self.lock();
        routes.vm = vm;
        routes.messages.fill(None);
    }

    /// Makes one more vector, muted.
    ///
    /// # Errors
    /// What `eventfd(2)` reports.
    pub fn vector(self: &Arc<Self>) -> io::Result<MsiVector> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let mut routes = self.lock();
        let index = u32::try_from(routes.messages.len()).map_err(io::Error::other)?;
        let gsi = FIRST_GSI.checked_add(index).ok_or_else(|| io::Error::other("out of vectors"))?;
        routes.messages.push(None);
        Ok(MsiVector { router: Arc::clone(self), gsi, event, live: Mutex::new(false) })
    }

    /// Writes one vector's route, and the whole table when that changed something. Returns the table's machine.
    fn set_route(&self, gsi: u32, message: MsiMessage) -> io::Result<Arc<VmFd>> {
        let mut routes = self.lock();
        let Routes { vm, messages } = &mut *routes;
        let slot = usize::try_from(gsi - FIRST_GSI)
            .ok()
            .and_then(|index| messages.get_mut(index))
            .expect("vectors are made by this router alone");
        if slot.replace(message) == Some(message) {
            return Ok(Arc::clone(vm));
        }
        let entries: Vec<_> = (FIRST_GSI..)
            .zip(messages.iter())
            .filter_map(|(gsi, route)| route.map(|message| routing_entry(gsi, message)))
            .collect();
        let table = KvmIrqRouting::from_entries(&entries).map_err(|_too_many| io::ErrorKind::OutOfMemory)?;
        vm.set_gsi_routing(&table).map_err(into_io)?;
        Ok(Arc::clone(vm))
    }
}

/// The kernel's form of one route.
fn routing_entry(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let [a, b, c, d, e, f, g, h] = message.address.to_le_bytes();
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            msi: kvm_irq_routing_msi {
                address_lo: u32::from_le_bytes([a, b, c, d]),
                address_hi: u32::from_le_bytes([e, f, g, h]),
                data: message.data,
                ..Default::default()
            },
        },
        ..Default::default()
    }
}

/// One interrupt vector.
#[derive(Debug)]
pub struct MsiVector {
    router: Arc<MsiRouter>,
    gsi: u32,
    event: EventFd,
    live: Mutex<bool>,
}

impl MsiVector {
    /// Sends what is pending, and from now on everything, as `message`.
    ///
    /// # Errors
    /// What KVM reports; the vector's state is unchanged then.
    pub fn unmute(&self, message: MsiMessage) -> io::Result<()> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let vm = self.router.set_route(self.gsi, message)?;
        if !*live {
            vm.register_irqfd(&self.event, self.gsi).map_err(into_io)?;
            *live = true;
        }
        Ok(())
    }

    /// Keeps what comes until the vector is unmuted.
    ///
    /// # Errors
    /// What KVM reports.
    pub fn mute(&self) -> io::Result<()> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if *live {
            let vm = Arc::clone(&self.router.lock().vm);
            vm.unregister_irqfd(&self.event, self.gsi).map_err(into_io)?;
            *live = false;
        }
        Ok(())
    }

    /// Interrupts the guest, or leaves the interrupt pending while muted.
    ///
    /// # Errors
    /// What `write(2)` reports.
    pub fn trigger(&self) -> io::Result<()> {
        self.event.write(1)
    }

    /// Whether something came while the vector was muted.
    #[must_use]
    pub fn pending(&self) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut poll = libc::pollfd { fd: self.event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one initialised pollfd, and the length says one.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        !*live && ready == 1
    }

    /// Forgets what came while the vector was muted: the device was reset.
    pub fn discard_pending(&self) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if !*live {
            // Empty is as good as emptied.
            let _count = self.event.read();
        }
    }

    /// A descriptor that, when written, does what [`MsiVector::trigger`] does.
    ///
    /// # Errors
    /// What duplicating reports.
    pub fn descriptor(&self) -> io::Result<EventFd> {
        self.event.try_clone()
    }
}

/// The crate's error as the standard one.
fn into_io(error: errno::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
