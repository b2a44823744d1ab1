//! QEMU's control socket (QMP): screenshots, touches, power button, end.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::left;

/// QEMU's axes go from 0 to this, whatever the screen's size.
const AXIS_MAX: u32 = 0x7fff;

/// Why a command did not happen.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// No answer in time.
    #[error("QEMU did not answer {0} in time")]
    Deadline(String),
    /// QEMU is gone.
    #[error("QEMU closed its control socket")]
    Closed,
    /// The socket failed.
    #[error("write to QEMU's control socket")]
    Io(#[source] io::Error),
    /// QEMU refused.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// Its words.
        reason: String,
    },
}

/// A connection to QEMU's control socket.
#[derive(Debug)]
pub struct Qmp {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stream: UnixStream,
    messages: Receiver<Value>,
    next_id: u64,
}

impl Qmp {
    /// Takes the connection that QEMU made, and greets.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn start(stream: UnixStream, deadline: Instant) -> Result<Self, QmpError> {
        let reader = stream.try_clone().map_err(QmpError::Io)?;
        let (sender, messages) = channel();
        std::thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || {
                for line in BufReader::new(reader).lines() {
                    let Ok(line) = line else { break };
                    // Ends when QEMU or our side is gone.
                    let Ok(message) = serde_json::from_str(&line) else { continue };
                    if sender.send(message).is_err() {
                        break;
                    }
                }
            })
            .map_err(QmpError::Io)?;
        let qmp = Self { inner: Mutex::new(Inner { stream, messages, next_id: 1 }) };
        qmp.command("qmp_capabilities", &json!({}), deadline)?;
        Ok(qmp)
    }

    /// Runs one command and waits for its result. Events that come meanwhile are dropped.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn command(&self, name: &str, arguments: &Value, deadline: Instant) -> Result<Value, QmpError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let id = inner.next_id;
        inner.next_id += 1;
        let message = json!({ "execute": name, "arguments": arguments, "id": id });
        inner.stream.write_all(format!("{message}\n").as_bytes()).map_err(QmpError::Io)?;
        loop {
            let answer = match inner.messages.recv_timeout(left(deadline)) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => return Err(QmpError::Deadline(name.to_owned())),
                Err(RecvTimeoutError::Disconnected) => return Err(QmpError::Closed),
            };
            // The greeting, events and answers to commands whose deadline passed have another id or none.
            if answer.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                let reason = error.get("desc").and_then(Value::as_str).unwrap_or("without a reason");
                return Err(QmpError::Refused { command: name.to_owned(), reason: reason.to_owned() });
            }
            return Ok(answer.get("return").cloned().unwrap_or_default());
        }
    }

    /// Writes a picture of the screen to a PNG file.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn screendump(&self, path: &Path, deadline: Instant) -> Result<(), QmpError> {
        let arguments = json!({ "filename": path, "format": "png" });
        self.command("screendump", &arguments, deadline).map(drop)
    }

    /// Puts a finger on the touch screen, and lifts it. `size` is the screen's, in pixels.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn tap(&self, at: (u32, u32), size: (u32, u32), deadline: Instant) -> Result<(), QmpError> {
        for events in [touch_down(at, size), touch_up()] {
            self.command("input-send-event", &json!({ "events": events }), deadline)?;
        }
        Ok(())
    }

    /// Makes the data disk slow: so many bytes a second, reads and writes together.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn limit_data_disk(&self, bytes: u64, deadline: Instant) -> Result<(), QmpError> {
        let mut limits = json!({ "device": "data", "bps": bytes });
        for unlimited in ["bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"] {
            limits[unlimited] = json!(0);
        }
        self.command("block_set_io_throttle", &limits, deadline).map(drop)
    }

    /// Holds the machine's processors.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn hold(&self, deadline: Instant) -> Result<(), QmpError> {
        self.command("stop", &json!({}), deadline).map(drop)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn go_on(&self, deadline: Instant) -> Result<(), QmpError> {
        self.command("cont", &json!({}), deadline).map(drop)
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn press_power_button(&self, deadline: Instant) -> Result<(), QmpError> {
        self.command("system_powerdown", &json!({}), deadline).map(drop)
    }

    /// Ends QEMU at once.
    ///
    /// # Errors
    /// [`QmpError`]; [`QmpError::Closed`] is not one here.
    pub fn quit(&self, deadline: Instant) -> Result<(), QmpError> {
        match self.command("quit", &json!({}), deadline) {
            Ok(_) | Err(QmpError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The events of one finger that goes down, as QEMU's own windows send them: slot, button, both axes.
fn touch_down(at: (u32, u32), size: (u32, u32)) -> Value {
    let touch = |kind: &str, axis: &str, value: u32| {
        json!({ "type": "mtt", "data": {
            "type": kind, "slot": 0, "tracking-id": 1, "axis": axis, "value": value } })
    };
    json!([
        touch("begin", "x", 0),
        { "type": "btn", "data": { "button": "touch", "down": true } },
        touch("data", "x", to_axis(at.0, size.0)),
        touch("data", "y", to_axis(at.1, size.1)),
    ])
}

fn touch_up() -> Value {
    json!([
        { "type": "mtt", "data": { "type": "end", "slot": 0, "tracking-id": -1, "axis": "x", "value": 0 } },
        { "type": "btn", "data": { "button": "touch", "down": false } },
    ])
}

/// A pixel as a value of QEMU's axes, rounded so that it comes out as the same pixel again.
fn to_axis(pixel: u32, size: u32) -> u32 {
    let last = size.saturating_sub(1).max(1);
    (pixel.min(last) * AXIS_MAX + last / 2) / last
}

#[cfg(test)]
mod tests;
