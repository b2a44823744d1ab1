//! A vhost-user back end that sends every packet back, made of the `vhost` crate's back-end half.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// How the back end treats the front end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Honest,
    RefusesMemory,
}

/// The back end's state.
pub(super) struct Echo {
    features: u64,
    behaviour: Behaviour,
    memory: Option<Arc<GuestMemoryMmap>>,
    rings: [Ring; 2],
    pub(super) acknowledged: u64,
    pub(super) starts: u32,
    /// Packets that were sent back.
    pub(super) echoed: u32,
    /// Kicks are ignored.
    pub(super) deaf: AtomicBool,
}

struct Ring {
    queue: Queue,
    kick: Option<File>,
    call: Option<File>,
    failed: Option<File>,
    enabled: bool,
}

impl Echo {
    pub(super) fn new(features: u64, behaviour: Behaviour) -> Self {
        let ring =
            || Ring { queue: Queue::new(256).unwrap(), kick: None, call: None, failed: None, enabled: false };
        let deaf = AtomicBool::new(false);
        let rings = [ring(), ring()];
        Self { features, behaviour, memory: None, rings, acknowledged: 0, starts: 0, echoed: 0, deaf }
    }

    /// No ring is in use.
    pub(super) fn is_idle(&self) -> bool {
        self.rings.iter().all(|ring| !ring.enabled && ring.kick.is_none() && ring.call.is_none())
    }

    /// Tells the front end that a ring cannot be served.
    pub(super) fn give_up(&mut self, ring: usize) {
        self.rings[ring].failed.as_mut().unwrap().write_all(&1u64.to_ne_bytes()).unwrap();
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        self.rings.get_mut(index as usize).ok_or(Error::InvalidParam)
    }

    /// Copies each sent packet into a receive buffer.
    fn echo(&mut self) {
        let Some(memory) = self.memory.clone() else { return };
        let [receive, transmit] = &mut self.rings;
        if !receive.enabled || !transmit.enabled {
            return;
        }
        while let Some(sent) = transmit.queue.pop_descriptor_chain(&*memory) {
            self.echoed += 1;
            let head = sent.head_index();
            let mut packet = Vec::new();
            sent.reader(&memory).unwrap().read_to_end(&mut packet).unwrap();
            transmit.queue.add_used(&*memory, head, 0).unwrap();
            let buffer = receive.queue.iter(&*memory).unwrap().next().unwrap();
            let head = buffer.head_index();
            buffer.writer(&memory).unwrap().write_all(&packet).unwrap();
            receive.queue.add_used(&*memory, head, packet.len() as u32).unwrap();
        }
        for ring in [receive, transmit] {
            ring.call.as_mut().unwrap().write_all(&1u64.to_ne_bytes()).unwrap();
        }
    }
}

/// Serves one front end until it goes away.
pub(super) fn serve(stream: UnixStream, echo: Arc<Mutex<Echo>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut handler = BackendReqHandler::from_stream(stream, Arc::clone(&echo));
        loop {
            let epoll = Epoll::new().unwrap();
            let watch = |descriptor, token| {
                let event = EpollEvent::new(EventSet::IN, token);
                epoll.ctl(ControlOperation::Add, descriptor, event).unwrap();
            };
            watch(handler.as_raw_fd(), 2);
            {
                let echo = echo.lock().unwrap();
                for (token, ring) in (0..).zip(&echo.rings) {
                    if let Some(kick) = ring.kick.as_ref().filter(|_| !echo.deaf.load(Ordering::Relaxed)) {
                        watch(kick.as_raw_fd(), token);
                    }
                }
            }
            let mut events = [EpollEvent::default()];
            epoll.wait(-1, &mut events).unwrap();
            if events[0].data() == 2 {
                if handler.handle_request().is_err() {
                    return;
                }
            } else {
                let mut echo = echo.lock().unwrap();
                let kick = echo.rings[events[0].data() as usize].kick.as_mut().unwrap();
                kick.read_exact(&mut [0; 8]).unwrap();
                echo.echo();
            }
        }
    })
}

impl VhostUserBackendReqHandlerMut for Echo {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.features)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        assert_eq!(features & !self.features, 0);
        self.acknowledged = features;
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        if self.behaviour == Behaviour::RefusesMemory {
            return Err(Error::InvalidParam);
        }
        let ranges = regions.iter().zip(files).map(|(region, file)| {
            // This back end takes ring addresses as guest addresses.
            assert_eq!({ region.user_addr }, { region.guest_phys_addr });
            let offset = FileOffset::new(file, region.mmap_offset);
            (GuestAddress(region.guest_phys_addr), region.memory_size as usize, Some(offset))
        });
        self.memory = Some(Arc::new(GuestMemoryMmap::from_ranges_with_files(ranges).unwrap()));
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.ring(index)?.queue.set_size(num as u16);
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let queue = &mut self.ring(index)?.queue;
        let words = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
        let (low, high) = words(descriptor);
        queue.set_desc_table_address(low, high);
        let (low, high) = words(used);
        queue.set_used_ring_address(low, high);
        let (low, high) = words(available);
        queue.set_avail_ring_address(low, high);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let queue = &mut self.ring(index)?.queue;
        queue.set_next_avail(base as u16);
        queue.set_next_used(base as u16);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let ring = self.ring(index)?;
        (ring.kick, ring.call) = (None, None);
        ring.queue.set_ready(false);
        Ok(VhostUserVringState::new(index, ring.queue.next_avail().into()))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        let ring = self.ring(index.into())?;
        ring.kick = kick;
        ring.queue.set_ready(true);
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        self.ring(index.into())?.call = call;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, failed: Option<File>) -> Result<()> {
        self.ring(index.into())?.failed = failed;
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let memory = self.memory.clone().ok_or(Error::InvalidParam)?;
        self.starts += u32::from(enable);
        let ring = self.ring(index)?;
        assert!(!enable || ring.queue.is_valid(&*memory));
        ring.enabled = enable;
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        unused()
    }
    fn reset_device(&mut self) -> Result<()> {
        unused()
    }
    fn get_queue_num(&mut self) -> Result<u64> {
        unused()
    }
    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        unused()
    }
    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        unused()
    }
    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        unused()
    }
    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        unused()
    }
    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        unused()
    }
    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        unused()
    }
    fn get_max_mem_slots(&mut self) -> Result<u64> {
        unused()
    }
    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        unused()
    }
    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        unused()
    }
    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        unused()
    }
    fn check_device_state(&mut self) -> Result<()> {
        unused()
    }
    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unused()
    }
    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        unused()
    }
}

/// The answer to every request that the device has no reason to make.
fn unused<T>() -> Result<T> {
    Err(Error::InvalidOperation("the device does not ask for this"))
}
