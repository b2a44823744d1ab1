//! The system tests' hand inside the host: only test images contain it, and a test proves that.
//!
//! Over the virtio-serial port `org.bulkhead.test` come messages as in Varlink, JSON with a zero byte behind
//! it, each with an `id` that its replies repeat ([`message`]). Methods of `org.bulkhead.Zones` are passed to
//! `zoned` and back unchanged ([`forward`]); methods of `org.bulkhead.Test` look at the host
//! ([`processes`], [`threads`], [`frames`], [`mounts`], [`network`], [`files`], [`kernel_log`]) or kill one of its processes.
//!
//! This library is also what the other end uses: the result types are here, once.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

pub mod files;
pub mod forward;
pub mod frames;
pub mod kernel_log;
pub mod message;
pub mod mounts;
pub mod network;
pub mod port;
pub mod processes;
pub mod threads;

/// The name of the virtio-serial port.
pub const PORT: &str = "org.bulkhead.test";

/// The interface that this program serves itself.
pub const INTERFACE: &str = "org.bulkhead.Test";

/// A method that did not happen: an error name, and its parameters.
#[derive(Debug, PartialEq)]
pub struct Failure {
    /// As in Varlink, `interface.Error`.
    pub error: String,
    /// What the error says.
    pub parameters: Value,
}

impl Failure {
    fn new(name: &str, reason: impl std::fmt::Display) -> Self {
        Self { error: format!("{INTERFACE}.{name}"), parameters: json!({ "reason": reason.to_string() }) }
    }
}

/// Carries out a method of [`INTERFACE`], given its name without the interface.
///
/// # Errors
/// [`Failure`], for the caller.
pub fn look(method: &str, parameters: Value) -> Result<Value, Failure> {
    let proc = Path::new("/proc");
    match method {
        "Processes" => processes::snapshot(proc).map(|list| json!({ "processes": list })),
        "Threads" => threads::snapshot(proc).map(|list| json!({ "processes": list })),
        "Frames" => {
            let Frames { frames } = read(parameters)?;
            frames::look(proc, &frames).map(|list| json!({ "frames": list }))
        }
        "Network" => network::snapshot(proc).map(|list| json!({ "namespaces": list })),
        "Mounts" => mounts::snapshot(proc).map(|list| json!({ "mounts": list })),
        "Files" => {
            let Folder { path } = read(parameters)?;
            files::list(Path::new(&path)).map(|files| json!({ "files": files }))
        }
        "Space" => {
            let Folder { path } = read(parameters)?;
            files::space(Path::new(&path)).map(|bytes| json!({ "bytes": bytes }))
        }
        "Kmsg" => kernel_log::tail().map(|text| json!({ "text": text })),
        "Kill" => return kill(&read(parameters)?),
        _ => return Err(Failure::new("MethodNotFound", method)),
    }
    .map_err(|error| Failure::new("Failed", error))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frames {
    frames: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kill {
    pid: i32,
    signal: i32,
}

fn read<T: serde::de::DeserializeOwned>(parameters: Value) -> Result<T, Failure> {
    serde_json::from_value(parameters).map_err(|error| Failure::new("InvalidParameter", error))
}

fn kill(target: &Kill) -> Result<Value, Failure> {
    // 0 and below would be groups, and 1 is init: a test that kills it ends the machine, which is never meant.
    let pid = (target.pid > 1)
        .then(|| Pid::from_raw(target.pid))
        .flatten()
        .ok_or_else(|| Failure::new("InvalidParameter", format!("pid {}", target.pid)))?;
    let signal = Signal::from_named_raw(target.signal)
        .ok_or_else(|| Failure::new("InvalidParameter", format!("signal {}", target.signal)))?;
    match kill_process(pid, signal) {
        Ok(()) => Ok(json!({})),
        Err(errno) => Err(Failure::new("Failed", std::io::Error::from(errno))),
    }
}

#[cfg(test)]
mod tests;
