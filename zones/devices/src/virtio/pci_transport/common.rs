//! The common configuration structure (virtio 1.3, section 4.1.4.3) as plain data: no memory, no threads.

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

use super::{DRIVER_OK, FEATURES_OK};
use crate::virtio::pci_transport::interrupt::NO_VECTOR;

/// Size of the structure, without the fields of features that are not offered.
const SIZE: usize = 0x38;

/// What one queue's registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueRegisters {
    pub(super) max_size: u16,
    pub(super) size: u16,
    pub(super) vector: u16,
    pub(super) enabled: bool,
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
}

impl QueueRegisters {
    fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: max_size,
            vector: NO_VECTOR,
            enabled: false,
            descriptors: 0,
            driver: 0,
            device: 0,
        }
    }
}

/// What a write asks of the transport, beyond being remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Reset,
    DriverOk,
    ConfigVector(u16),
    QueueVector(u16, u16),
}

/// The structure.
#[derive(Debug)]
pub(super) struct Common {
    device_features: u64,
    device_feature_select: u32,
    driver_feature_select: u32,
    queue_select: u16,
    pub(super) driver_features: u64,
    pub(super) config_vector: u16,
    pub(super) status: u8,
    pub(super) queues: Vec<QueueRegisters>,
}

impl Common {
    pub(super) fn new(device_features: u64, queue_sizes: &[u16]) -> Self {
        Self {
            device_features,
            device_feature_select: 0,
            driver_feature_select: 0,
            queue_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            status: 0,
            queues: queue_sizes.iter().map(|size| QueueRegisters::new(*size)).collect(),
        }
    }

    /// Back to the state at power-on.
    pub(super) fn reset(&mut self) {
        let sizes: Vec<_> = self.queues.iter().map(|queue| queue.max_size).collect();
        *self = Self::new(self.device_features, &sizes);
    }

    /// The structure as the driver reads it.
    pub(super) fn image(&self, status: u8, generation: u8) -> [u8; SIZE] {
        // A queue that is not there has size zero.
        let absent = QueueRegisters { vector: NO_VECTOR, ..QueueRegisters::new(0) };
        let queue = self.queues.get(usize::from(self.queue_select)).unwrap_or(&absent);
        let count = u16::try_from(self.queues.len()).unwrap_or(u16::MAX);
        let notify = if queue.max_size == 0 { 0 } else { self.queue_select };
        let mut image = [0; SIZE];
        let fields: [&[u8]; 16] = [
            &self.device_feature_select.to_le_bytes(),
            &half(self.device_features, self.device_feature_select).to_le_bytes(),
            &self.driver_feature_select.to_le_bytes(),
            &half(self.driver_features, self.driver_feature_select).to_le_bytes(),
            &self.config_vector.to_le_bytes(),
            &count.to_le_bytes(),
            &[status, generation],
            &self.queue_select.to_le_bytes(),
            &queue.size.to_le_bytes(),
            &queue.vector.to_le_bytes(),
            &u16::from(queue.enabled).to_le_bytes(),
            &notify.to_le_bytes(),
            &queue.descriptors.to_le_bytes(),
            &queue.driver.to_le_bytes(),
            &queue.device.to_le_bytes(),
            &[],
        ];
        for (byte, value) in image.iter_mut().zip(fields.into_iter().flatten()) {
            *byte = *value;
        }
        image
    }

    /// A write by the driver. Widths other than the field's are ignored, except that 64-bit fields also come
    /// in halves (section 4.1.3.1).
    pub(super) fn write(&mut self, offset: u32, data: &[u8]) -> Change {
        match (offset, data) {
            (0x00, &[a, b, c, d]) => self.device_feature_select = u32::from_le_bytes([a, b, c, d]),
            (0x08, &[a, b, c, d]) => self.driver_feature_select = u32::from_le_bytes([a, b, c, d]),
            (0x0C, &[a, b, c, d]) => self.accept_features(u32::from_le_bytes([a, b, c, d])),
            (0x10, &[a, b]) => return Change::ConfigVector(u16::from_le_bytes([a, b])),
            (0x14, &[status]) => return self.set_status(status),
            (0x16, &[a, b]) => self.queue_select = u16::from_le_bytes([a, b]),
            (0x1A, &[a, b]) => return Change::QueueVector(self.queue_select, u16::from_le_bytes([a, b])),
            (0x18 | 0x1C | 0x20..0x38, data) => self.write_queue(offset, data),
            _ => {}
        }
        Change::None
    }

    /// Half of the driver's features. They are fixed once agreed.
    fn accept_features(&mut self, value: u32) {
        if self.status & FEATURES_OK == 0 {
            match self.driver_feature_select {
                0 => self.driver_features = self.driver_features >> 32 << 32 | u64::from(value),
                1 => self.driver_features = self.driver_features & 0xFFFF_FFFF | u64::from(value) << 32,
                _ => {}
            }
        }
    }

    /// Status bits only ever get added, until zero resets all. FEATURES_OK holds only for features that we
    /// offered and with the modern interface; DRIVER_OK only after it.
    fn set_status(&mut self, value: u8) -> Change {
        if value == 0 {
            return Change::Reset;
        }
        let mut added = value & !self.status;
        let acceptable = self.driver_features & !self.device_features == 0
            && self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0;
        if added & FEATURES_OK != 0 && !acceptable {
            added &= !FEATURES_OK;
        }
        if (self.status | added) & FEATURES_OK == 0 {
            added &= !DRIVER_OK;
        }
        // What the device adds is not the driver's to set.
        self.status |= added & !super::NEEDS_RESET;
        if added & DRIVER_OK != 0 { Change::DriverOk } else { Change::None }
    }

    /// The selected queue's fields. An enabled queue is fixed until reset.
    fn write_queue(&mut self, offset: u32, data: &[u8]) {
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else { return };
        if queue.enabled || self.status & DRIVER_OK != 0 {
            return;
        }
        match (offset, data) {
            (0x18, &[a, b]) => queue.size = u16::from_le_bytes([a, b]),
            (0x1C, &[1, 0]) => queue.enabled = true,
            _ => {
                let field = match offset & !7 {
                    0x20 => &mut queue.descriptors,
                    0x28 => &mut queue.driver,
                    0x30 => &mut queue.device,
                    _ => return,
                };
                match (offset % 8, data) {
                    (0, &[a, b, c, d]) => {
                        *field = *field >> 32 << 32 | u64::from(u32::from_le_bytes([a, b, c, d]));
                    }
                    (4, &[a, b, c, d]) => {
                        *field = *field & 0xFFFF_FFFF | u64::from(u32::from_le_bytes([a, b, c, d])) << 32;
                    }
                    (0, &[a, b, c, d, e, f, g, h]) => *field = u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                    _ => {}
                }
            }
        }
    }
}

/// The 32 feature bits that `select` names.
fn half(features: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}
