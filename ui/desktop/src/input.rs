//! Input devices: descriptors that `init` opened, read without blocking.
//!
//! [`Device`] is the thin part; what events mean is decided by [`decoder::Decoder`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use evdev::raw_stream::RawDevice;
use evdev::{AbsoluteAxisCode, KeyCode, RelativeAxisCode};

pub mod decoder;
mod slots;

use decoder::{Axis, Decoder, DeviceEvent, Kind, RawEvent};

/// One input device.
#[derive(Debug)]
pub struct Device {
    name: String,
    device: RawDevice,
    decoder: Decoder,
}

/// A device cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("input device {name}")]
pub struct OpenDeviceError {
    name: String,
    #[source]
    source: io::Error,
}

impl Device {
    /// Takes over the open event device called `name`.
    ///
    /// # Errors
    /// [`OpenDeviceError`] when it is no event device or is already gone.
    pub fn open(name: &str, descriptor: OwnedFd) -> Result<Self, OpenDeviceError> {
        let failed = |source| OpenDeviceError { name: name.to_owned(), source };
        rustix::io::ioctl_fionbio(&descriptor, true).map_err(|error| failed(error.into()))?;
        let mut device = RawDevice::from_fd(descriptor).map_err(failed)?;
        // Alone: nothing typed or touched here may also reach the kernel's console.
        if let Err(error) = device.grab() {
            tracing::warn!(name, %error, "input device is shared with the console");
        }
        let kind = kind(&device).map_err(failed)?;
        tracing::info!(name, label = device.name().unwrap_or_default(), ?kind, "input device");
        let mut decoder = Decoder::new(kind);
        let (slot, positions) = last_positions(&device, kind).map_err(failed)?;
        decoder.resume(slot, &positions);
        Ok(Self { name: name.to_owned(), device, decoder })
    }

    /// Its descriptor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happened since the last call.
    ///
    /// # Errors
    /// The device is gone.
    pub fn read(&mut self) -> io::Result<Vec<DeviceEvent>> {
        let mut events = Vec::new();
        let raw = match self.device.fetch_events() {
            Ok(raw) => raw,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(events),
            Err(error) => return Err(error),
        };
        for event in raw {
            let raw = RawEvent { kind: event.event_type().0, code: event.code(), value: event.value() };
            self.decoder.feed(raw, &mut events);
        }
        Ok(events)
    }

    /// Ends every open touch and button: the device goes away.
    pub fn give_up(&mut self) -> Vec<DeviceEvent> {
        let mut events = Vec::new();
        self.decoder.give_up(&mut events);
        events
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// The current slot, and where each finger was last: what the kernel does not report again.
fn last_positions(device: &RawDevice, kind: Kind) -> io::Result<(i32, Vec<(i32, i32)>)> {
    let value = |wanted: AbsoluteAxisCode| -> io::Result<i32> {
        let info = device.get_absinfo()?.find(|(axis, _)| *axis == wanted);
        Ok(info.map(|(_, info)| info.value()).unwrap_or_default())
    };
    match kind {
        Kind::MultiTouch { .. } => {
            let x = slots::values(device, AbsoluteAxisCode::ABS_MT_POSITION_X.0)?;
            let y = slots::values(device, AbsoluteAxisCode::ABS_MT_POSITION_Y.0)?;
            Ok((value(AbsoluteAxisCode::ABS_MT_SLOT)?, x.into_iter().zip(y).collect()))
        }
        Kind::SingleTouch { .. } | Kind::Tablet { .. } => {
            let at = (value(AbsoluteAxisCode::ABS_X)?, value(AbsoluteAxisCode::ABS_Y)?);
            Ok((0, vec![at]))
        }
        Kind::Mouse | Kind::Keys => Ok((0, Vec::new())),
    }
}

fn kind(device: &RawDevice) -> io::Result<Kind> {
    let has_axis = |axis| device.supported_absolute_axes().is_some_and(|axes| axes.contains(axis));
    let has_key = |key| device.supported_keys().is_some_and(|keys| keys.contains(key));
    let range = |wanted: AbsoluteAxisCode| -> io::Result<Axis> {
        let info = device.get_absinfo()?.find(|(axis, _)| *axis == wanted);
        Ok(info.map(|(_, info)| Axis { least: info.minimum(), most: info.maximum() }).unwrap_or_default())
    };
    if has_axis(AbsoluteAxisCode::ABS_MT_SLOT) && has_axis(AbsoluteAxisCode::ABS_MT_POSITION_X) {
        let x = range(AbsoluteAxisCode::ABS_MT_POSITION_X)?;
        let y = range(AbsoluteAxisCode::ABS_MT_POSITION_Y)?;
        return Ok(Kind::MultiTouch { x, y });
    }
    if has_axis(AbsoluteAxisCode::ABS_X) && has_axis(AbsoluteAxisCode::ABS_Y) {
        let (x, y) = (range(AbsoluteAxisCode::ABS_X)?, range(AbsoluteAxisCode::ABS_Y)?);
        let single_touch = has_key(KeyCode::BTN_TOUCH) && !has_key(KeyCode::BTN_LEFT);
        return Ok(if single_touch { Kind::SingleTouch { x, y } } else { Kind::Tablet { x, y } });
    }
    let relative = |axis| device.supported_relative_axes().is_some_and(|axes| axes.contains(axis));
    if relative(RelativeAxisCode::REL_X) && relative(RelativeAxisCode::REL_Y) {
        return Ok(Kind::Mouse);
    }
    Ok(Kind::Keys)
}
