//! Where the builder put what a machine boots from.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use harness::{QemuProgram, TpmConfig};

/// Names the build folder.
pub const VARIABLE: &str = "BULKHEAD_BUILD";

/// The command line of the host's kernel, in tests and demo. IPv6 is off before any interface exists, and the
/// lockdown module must stand first; what is only news stays off the console, what went wrong does not. The
/// kernel is told that the emulated TSC is no clock: finding it out by itself, it patches its scheduler's code
/// while other processors run it, and QEMU's emulation on several threads now and then executes half a patch.
/// Its trial of the timer's interrupt is left out for the same reason: on a busy computer the emulated timer comes
/// too late for it, and the kernel panics at once. What is freed is emptied: a zone's secrets do not outlive its processes.
pub const KERNEL_ARGUMENTS: &str = "console=tty0 console=ttyS0 quiet loglevel=5 oops=panic panic=5 ipv6.disable=1 \
    lsm=lockdown,landlock,yama,integrity vt.global_cursor_default=0 tsc=unstable no_timer_check init_on_free=1";

/// The build folder.
#[derive(Clone, Debug)]
pub struct Artifacts {
    folder: PathBuf,
    /// Folder with the demo policy and its keys.
    pub demo: PathBuf,
}

impl Artifacts {
    /// Takes the folder from the environment.
    ///
    /// # Errors
    /// A sentence that says what to do when the variable is not set or a file is missing.
    pub fn find() -> anyhow::Result<Self> {
        let folder = std::env::var_os(VARIABLE)
            .map(PathBuf::from)
            .with_context(|| format!("{VARIABLE} is not set: start this program by ./bulkhead test"))?;
        let folder =
            folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?;
        let source = folder.parent().context("the build folder is the root of the file system")?;
        let artifacts = Self { demo: source.join("policy/policy/demo"), folder };
        let needed = [
            artifacts.kernel(),
            artifacts.host_segment(),
            artifacts.test_segment(),
            artifacts.data_disk(),
            artifacts.test_data_disk(),
            artifacts.demo.join("policy.toml"),
        ];
        if let Some(missing) = needed.iter().find(|path| !path.exists()) {
            bail!("{} is missing: run ./bulkhead image", missing.display());
        }
        Ok(artifacts)
    }

    /// QEMU of the build's own tools.
    #[must_use]
    pub fn qemu(&self) -> QemuProgram {
        QemuProgram::in_root(&self.tools())
    }

    /// The unpacked Debian root with the tools.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.folder.join("tools")
    }

    /// A TPM that has never been used.
    #[must_use]
    pub fn tpm(&self) -> TpmConfig {
        TpmConfig { root: self.tools(), state: None, log: None }
    }

    /// A TPM that has never been used, whose state several machines share, one after the other.
    ///
    /// # Errors
    /// An earlier run's state cannot be removed.
    pub fn kept_tpm(&self, name: &str) -> anyhow::Result<TpmConfig> {
        let state = self.logs().join(name);
        if state.exists() {
            std::fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
        }
        Ok(TpmConfig { root: self.tools(), state: Some(state), log: None })
    }

    /// The host's kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("host-vmlinux")
    }

    /// The production image's initramfs.
    #[must_use]
    pub fn host_segment(&self) -> PathBuf {
        self.folder.join("host.cpio")
    }

    /// What test images have more.
    #[must_use]
    pub fn test_segment(&self) -> PathBuf {
        self.folder.join("test.cpio")
    }

    /// The data disk.
    #[must_use]
    pub fn data_disk(&self) -> PathBuf {
        self.folder.join("data.img")
    }

    /// The data disk whose templates contain the attack programs.
    #[must_use]
    pub fn test_data_disk(&self) -> PathBuf {
        self.folder.join("data-test.img")
    }

    /// Where logs and pictures of machines go.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// A file of the build folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The demo's keys for its gateways.
    ///
    /// # Errors
    /// What is wrong with the key files.
    pub fn keys(&self) -> anyhow::Result<gateway::Keys> {
        gateway::Keys::from_folder(Path::new(&self.demo)).context("load the demo's keys")
    }
}
