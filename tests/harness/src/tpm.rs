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
    /// Where it writes what it is told and what it answers, for [`commands`].
    pub log: Option<PathBuf>,
}

/// The codes of the commands that a TPM's log tells of, oldest first (TPM 2.0 Library, Part 2, 6.5.2).
#[must_use]
pub fn commands(log: &str) -> Vec<u32> {
    let mut lines = log.lines();
    let mut codes = Vec::new();
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("SWTPM_IO_Read:") {
            continue;
        }
        // Tag, size and code, ten bytes of hexadecimal, stand in the first line.
        let bytes: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        let code = bytes.get(6..10).map(<[&str]>::concat);
        codes.extend(code.and_then(|code| u32::from_str_radix(&code, 16).ok()));
    }
    codes
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
        let mut command = Command::new(config.root.join("lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(paths)
            .arg(config.root.join("usr/bin/swtpm"))
            .args(["socket", "--tpm2", "--daemon", "--terminate", "--tpmstate"])
            .arg(option("dir=", &std::path::absolute(state)?))
            .arg("--ctrl")
            .arg(option("type=unixio,path=", &std::path::absolute(&socket)?));
        if let Some(log) = &config.log {
            let mut word = option("level=20,file=", &std::path::absolute(log)?);
            word.push(",truncate");
            command.arg("--log").arg(word);
        }
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = quiet.status()?;
        if status.success() { Ok(Self { socket }) } else { Err(io::Error::other(format!("swtpm: {status}"))) }
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // It ends with its first client. If QEMU never came, this is the one.
        let _gone = UnixStream::connect(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_a_log() {
        // Two commands and an answer, as swtpm 0.7 writes them.
        let log = " Ctrl Cmd: length 4\n 00 00 00 01 \n SWTPM_IO_Read: length 12\n 80 01 00 00 00 0C 00 00 01 7B 00 08 \n \
                   SWTPM_IO_Write: length 12\n 80 01 00 00 00 0C 00 00 00 00 00 00 \n SWTPM_IO_Read: length 10\n \
                   80 01 00 00 00 0A 00 00 01 44 \n";
        assert_eq!(commands(log), [0x17B, 0x144]);
        assert!(commands("SWTPM_IO_Read: length 3\n 80 01 00").is_empty());
    }
}
