//! The host's TPM, played by swtpm: a process beside QEMU, which ends when QEMU does.
//!
//! Without a state folder of the test's own a machine gets a TPM that has never been used. A machine that is ended
//! without powering off cut its TPM's power: what the TPM had not written is lost.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A machine's TPM.
#[derive(Clone, Debug)]
pub struct TpmConfig {
    /// The unpacked Debian root that swtpm is in.
    pub root: PathBuf,
    /// Where its state is kept between two machines; `None`: it is forgotten with the machine.
    pub state: Option<PathBuf>,
}

/// A running swtpm.
#[derive(Debug)]
pub(crate) struct Tpm {
    /// Its control socket, for QEMU.
    pub(crate) socket: PathBuf,
}

impl Tpm {
    /// Starts it; it listens when this returns. Its socket, and its state unless that has a place, lie in `folder`.
    pub(crate) fn start(config: &TpmConfig, folder: &Path) -> io::Result<Self> {
        let socket = folder.join("tpm");
        let state = config.state.clone().unwrap_or_else(|| folder.join("tpm-state"));
        std::fs::create_dir_all(&state)?;
        let libraries = config.root.join("usr/lib/x86_64-linux-gnu");
        let mut paths = libraries.clone().into_os_string();
        paths.push(":");
        paths.push(libraries.join("swtpm"));
        let option = |before: &str, path: &Path| {
            let mut word = OsString::from(before);
            word.push(path);
            word
        };
        // With --daemon it goes on in the background as soon as it listens; absolute paths are all it needs.
        let status = Command::new(config.root.join("lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(paths)
            .arg(config.root.join("usr/bin/swtpm"))
            .args(["socket", "--tpm2", "--daemon", "--terminate", "--tpmstate"])
            .arg(option("dir=", &std::path::absolute(state)?))
            .arg("--ctrl")
            .arg(option("type=unixio,path=", &std::path::absolute(&socket)?))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() { Ok(Self { socket }) } else { Err(io::Error::other(format!("swtpm: {status}"))) }
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // It ends with its first client. If QEMU never came, this is the one.
        let _gone = UnixStream::connect(&self.socket);
    }
}
