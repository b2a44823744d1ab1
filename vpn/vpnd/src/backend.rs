//! The vhost-user side: what the VMM tells about memory, rings and features.
//!
//! The VMM serves the same zone as this process, so an error in its messages is answered and nothing more.

use std::fs::File;
use std::io;

use rustix::fs::SealFlags;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error, GpuBackend, Result, VhostUserBackendReqHandlerMut, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestRegionMmap};

use crate::vring::{MAX_RING, Memory, Vring};

/// What the device offers.
pub(crate) const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// Memory regions that a machine may have.
const MAX_REGIONS: usize = 16;

/// A region of guest memory as the VMM sees it.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    user: u64,
    guest: u64,
    size: u64,
}

/// State of the device.
pub(crate) struct Backend {
    /// Accepted features.
    pub(crate) features: u64,
    /// Guest memory.
    pub(crate) memory: Option<Memory>,
    /// What the guest receives.
    pub(crate) receive: Vring,
    /// What the guest sends.
    pub(crate) transmit: Vring,
    mappings: Vec<Mapping>,
}

impl Backend {
    pub(crate) fn new() -> Self {
        Self {
            features: 0,
            memory: None,
            receive: Vring::new(),
            transmit: Vring::new(),
            mappings: Vec::new(),
        }
    }

    /// Whether the driver accepted a feature.
    pub(crate) fn has(&self, feature: u32) -> bool {
        self.features & (1 << feature) != 0
    }

    fn ring(&mut self, index: u32) -> Result<&mut Vring> {
        match index {
            0 => Ok(&mut self.receive),
            1 => Ok(&mut self.transmit),
            _ => Err(Error::InvalidParam),
        }
    }

    /// From an address in the VMM to one in the guest.
    fn translate(&self, address: u64) -> Result<GuestAddress> {
        let guest = self.mappings.iter().find_map(|mapping| {
            let offset = address.checked_sub(mapping.user).filter(|offset| *offset < mapping.size)?;
            mapping.guest.checked_add(offset)
        });
        guest.map(GuestAddress).ok_or(Error::InvalidParam)
    }
}

/// Whether every page of a region is there and stays: one that is missing in its file kills who touches it.
fn is_backed(region: &VhostUserMemoryRegion, file: &File) -> bool {
    let end = region.mmap_offset.checked_add(region.memory_size);
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let sealed = rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    sealed && end.is_some_and(|end| end <= length)
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        *self = Self::new();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.receive.stop();
        self.transmit.stop();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(FEATURES)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !FEATURES != 0 {
            return Err(Error::FeatureMismatch);
        }
        self.features = features;
        let event_idx = self.has(VIRTIO_RING_F_EVENT_IDX);
        let enabled = features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0;
        for ring in [&mut self.receive, &mut self.transmit] {
            ring.queue.set_event_idx(event_idx);
            // Without protocol features there is no message that enables a ring.
            ring.enabled |= enabled;
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        if postcopy.is_some() || regions.len() > MAX_REGIONS || regions.len() != files.len() {
            return Err(Error::InvalidParam);
        }
        let mut mapped = Vec::with_capacity(regions.len());
        let mut mappings = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            if !is_backed(region, &file) {
                return Err(Error::InvalidParam);
            }
            let guest = GuestRegionMmap::new(region.mmap_region(file)?, GuestAddress(region.guest_phys_addr));
            mapped.push(guest.ok_or(Error::InvalidParam)?);
            mappings.push(Mapping {
                user: region.user_addr,
                guest: region.guest_phys_addr,
                size: region.memory_size,
            });
        }
        let memory =
            Memory::from_regions(mapped).map_err(|error| Error::ReqHandlerError(io::Error::other(error)))?;
        self.memory = Some(memory);
        self.mappings = mappings;
        self.receive.changed();
        self.transmit.changed();
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).ok().filter(|size| size.is_power_of_two() && *size <= MAX_RING);
        let size = size.ok_or(Error::InvalidParam)?;
        let ring = self.ring(index)?;
        ring.queue.set_size(size);
        ring.changed();
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
        let [descriptor, used, available] = [descriptor, used, available].map(|a| self.translate(a));
        let (descriptor, used, available) = (descriptor?, used?, available?);
        let memory = self.memory.clone().ok_or(Error::InvalidParam)?;
        let ring = self.ring(index)?;
        let queue = &mut ring.queue;
        queue.try_set_desc_table_address(descriptor).map_err(|_misaligned| Error::InvalidParam)?;
        queue.try_set_used_ring_address(used).map_err(|_misaligned| Error::InvalidParam)?;
        queue.try_set_avail_ring_address(available).map_err(|_misaligned| Error::InvalidParam)?;
        // The message that follows sets only the available index; the used one stands in memory.
        let next = queue
            .used_idx(&memory, std::sync::atomic::Ordering::Acquire)
            .map_err(|_outside| Error::InvalidParam)?;
        queue.set_next_used(next.0);
        ring.changed();
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_large| Error::InvalidParam)?;
        self.ring(index)?.queue.set_next_avail(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let ring = self.ring(index)?;
        let next = ring.queue.next_avail();
        ring.stop();
        Ok(VhostUserVringState::new(index, u32::from(next)))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        let ring = self.ring(u32::from(index))?;
        ring.queue.set_ready(kick.is_some());
        ring.kick = kick;
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        self.ring(u32::from(index))?.call = call;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _err: Option<File>) -> Result<()> {
        self.ring(u32::from(index)).map(|_ring| ())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(2)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.enabled = enable;
        Ok(())
    }

    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::CONFIG))
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::CONFIG))
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(Error::InvalidOperation("not a graphics device"))
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::SHARED_OBJECT))
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::INFLIGHT_SHMFD))
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::INFLIGHT_SHMFD))
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS))
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS))
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS))
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::DEVICE_STATE))
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::DEVICE_STATE))
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::SHMEM))
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(Error::InactiveOperation(VhostUserProtocolFeatures::LOG_SHMFD))
    }
}
