//! A machine's TPM: swtpm of the build's tools, for this crate's tests and for keeper's.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hw_tpm::{Machine, OpenTpmError, Sealed, Tpm};
use tempfile::TempDir;

/// A TPM whose power can be cut.
pub(crate) struct Hardware {
    state: TempDir,
    port: u16,
    process: Child,
}

impl Hardware {
    pub(crate) fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let (port, process) = start(&state);
        Self { state, port, process }
    }

    pub(crate) fn device(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Ends it without a word, and switches it on again.
    pub(crate) fn power_cut(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.port, self.process) = start(&self.state);
    }
}

impl Drop for Hardware {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// swtpm in the build's folder of tools.
fn tools() -> PathBuf {
    PathBuf::from(
        std::env::var_os("BULKHEAD_TOOLS")
            .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../build/tools").into()),
    )
}

fn start(state: &TempDir) -> (u16, Child) {
    let tools = tools();
    let libraries = tools.join("usr/lib/x86_64-linux-gnu");
    // Two free ports in a row are what the library wants; who takes one between here and there makes the test fail.
    let port = (0..100)
        .find_map(|_| {
            let first = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
            TcpListener::bind(("127.0.0.1", first.checked_add(1)?)).ok().map(|_free| first)
        })
        .unwrap();
    let mut process = Command::new(tools.join("lib64/ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(format!("{0}:{0}/swtpm", libraries.display()))
        .arg(tools.join("usr/bin/swtpm"))
        .args(["socket", "--tpm2", "--flags", "startup-clear,not-need-init"])
        .args(["--tpmstate", &format!("dir={}", state.path().display())])
        .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
        .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !answers(port) {
        assert!(process.try_wait().unwrap().is_none(), "swtpm ended");
        assert!(Instant::now() < deadline, "swtpm does not answer");
    }
    (port, process)
}

fn answers(port: u16) -> bool {
    let owner = Sealed { public: Vec::new(), private: Vec::new(), purpose: String::new(), pin: None };
    let nobodys = Machine { storage_key: Vec::new(), authority: owner.clone(), owner, owned: false };
    let opened = Tpm::open(&format!("swtpm:host=127.0.0.1,port={port}"), &nobodys);
    !matches!(opened, Err(OpenTpmError::Missing(_)))
}
