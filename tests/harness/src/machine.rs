//! One running Bulkhead host with everything around it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::accelerator::Accelerator;
use crate::bridge::Bridge;
use crate::command_line::{HostDevices, Pointer, QemuProgram, Screen, arguments};
use crate::memory::Memory;
use crate::picture::{Picture, PictureError};
use crate::process::QemuProcess;
use crate::qmp::{Qmp, QmpError};
use crate::serial::Serial;
use crate::socket::Listener;
use crate::tpm::{Tpm, TpmConfig};
use crate::within;
use crate::zones::Zones;

/// Between two looks at a screen that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Lines of the console that a failure shows.
const SHOWN_LINES: usize = 60;

/// What to boot.
#[derive(Debug)]
pub struct MachineConfig {
    /// QEMU.
    pub qemu: QemuProgram,
    /// How QEMU runs the host.
    pub accelerator: Accelerator,
    /// The host's kernel.
    pub kernel: PathBuf,
    /// Segments of its initramfs, in order.
    pub initramfs: Vec<PathBuf>,
    /// The kernel's command line.
    pub kernel_arguments: String,
    /// The data disk; it is never changed.
    pub data_disk: Option<PathBuf>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub processors: u8,
    /// Where the picture goes.
    pub screen: Screen,
    /// The screen's size in pixels.
    pub size: (u32, u32),
    /// What the user points with.
    pub pointer: Pointer,
    /// The demo network behind the NIC; its socket is chosen here. `None`: no NIC.
    pub network: Option<NetworkConfig>,
    /// Whether there is a port for the test bridge.
    pub bridge: bool,
    /// The machine's TPM; `None`: it has none.
    pub tpm: Option<TpmConfig>,
    /// More of QEMU's arguments.
    pub more: Vec<std::ffi::OsString>,
    /// Folder for console log and pictures; it is made, and stays.
    pub log_folder: PathBuf,
    /// Name of the log file in it, without ending.
    pub name: String,
}

/// The demo network of a machine.
#[derive(Debug)]
pub struct NetworkConfig {
    /// Keys of the gateways.
    pub keys: gateway::Keys,
    /// Every frame goes into this file too.
    pub pcap: Option<PathBuf>,
    /// The most bytes of frames that are kept in memory.
    pub record_bytes: usize,
}

impl MachineConfig {
    /// A test host with touch screen, demo network and test bridge.
    #[must_use]
    pub fn for_test(
        qemu: QemuProgram,
        kernel: PathBuf,
        initramfs: Vec<PathBuf>,
        log_folder: PathBuf,
    ) -> Self {
        Self {
            qemu,
            accelerator: Accelerator::of_this_machine(),
            kernel,
            initramfs,
            kernel_arguments: "console=ttyS0 panic=-1".to_owned(),
            data_disk: None,
            memory_mib: 3072,
            processors: 2,
            screen: Screen::None,
            size: (1280, 800),
            pointer: Pointer::Touch,
            network: None,
            bridge: true,
            tpm: None,
            more: Vec::new(),
            log_folder,
            name: "host".to_owned(),
        }
    }
}

/// Why a machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file or socket of ours.
    #[error("prepare {}", path.display())]
    Prepare {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TPM.
    #[error("start the machine's TPM")]
    Tpm(#[source] io::Error),
    /// The demo network.
    #[error("start the demo network")]
    Network(#[source] gateway::StartError),
    /// QEMU cannot be started (`setpriv` is part of util-linux).
    #[error("start QEMU by setpriv")]
    Start(#[source] io::Error),
    /// QEMU ended at once, or does not listen to us.
    #[error("QEMU did not come up; it said: {said}")]
    Qemu {
        /// What it wrote.
        said: String,
        /// What failed.
        source: QmpError,
    },
    /// The bridge's reader.
    #[error("start the bridge's client")]
    Bridge(#[source] io::Error),
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// QEMU made none.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// What it made is none.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The screen did not show what was waited for.
    #[error("the screen did not show {wanted} in time; the last picture is {}", picture.display())]
    Deadline {
        /// What was waited for.
        wanted: String,
        /// The last picture's file.
        picture: PathBuf,
    },
}

/// A running host. Dropping it ends QEMU and the demo network.
#[derive(Debug)]
pub struct Machine {
    process: QemuProcess,
    serial: Serial,
    qmp: Qmp,
    bridge: Option<Bridge>,
    gateway: Option<gateway::Gateway>,
    _tpm: Option<Tpm>,
    config: Config,
    /// Lives as long as QEMU uses what is in it.
    _folder: Folder,
}

/// What is needed of [`MachineConfig`] after boot.
#[derive(Debug)]
struct Config {
    size: (u32, u32),
    accelerator: Accelerator,
    log_folder: PathBuf,
    name: String,
    initramfs: Vec<PathBuf>,
    pictures: AtomicU32,
    reports: AtomicU32,
}

impl Machine {
    /// Starts the host; it returns when QEMU runs, long before the host has booted.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn boot(config: MachineConfig) -> Result<Self, BootError> {
        let folder = Folder::new()?;
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| BootError::Prepare { path, source }
        };
        std::fs::create_dir_all(&config.log_folder).map_err(at(&config.log_folder))?;
        let initramfs = folder.0.join("initramfs");
        concatenate(&config.initramfs, &initramfs).map_err(at(&initramfs))?;
        let listen = |name: &str| {
            let path = folder.0.join(name);
            Listener::new(&path).map_err(at(&path))
        };
        let qmp = listen("qmp")?;
        let bridge = config.bridge.then(|| listen("bridge")).transpose()?;
        let network = config.network.as_ref().map(|_| folder.0.join("network"));
        let gateway = match (config.network, &network) {
            (Some(NetworkConfig { keys, pcap, record_bytes }), Some(socket)) => {
                let config = gateway::Config { socket: socket.clone(), keys, pcap, record_bytes };
                Some(gateway::start(config).map_err(BootError::Network)?)
            }
            _ => None,
        };
        let stub = config.tpm.is_some().then(|| folder.0.join("stub"));
        if let Some(path) = &stub {
            let size = std::fs::metadata(&initramfs).map_err(at(&initramfs))?.len();
            let made = crate::stub::make(&config.kernel, size).map_err(at(&config.kernel))?;
            std::fs::write(path, made).map_err(at(path))?;
        }
        let tpm = config.tpm.map(|tpm| Tpm::start(&tpm, &folder.0)).transpose().map_err(BootError::Tpm)?;
        let words = arguments(&HostDevices {
            accelerator: config.accelerator,
            memory_mib: config.memory_mib,
            processors: config.processors,
            kernel: config.kernel,
            initramfs,
            stub,
            kernel_arguments: config.kernel_arguments,
            data_disk: config.data_disk,
            screen: config.screen,
            size: config.size,
            pointer: config.pointer,
            network,
            qmp: qmp.path.clone(),
            bridge: bridge.as_ref().map(|listener| listener.path.clone()),
            tpm: tpm.as_ref().map(|tpm| tpm.socket.clone()),
            more: config.more,
        });
        // What the host writes to its disk goes to a file that QEMU makes here and forgets.
        let environment = vec![("TMPDIR".into(), folder.0.clone().into_os_string())];
        let (process, outputs) =
            QemuProcess::start(&config.qemu, words, environment).map_err(BootError::Start)?;
        let log = config.log_folder.join(format!("{}.log", config.name));
        let serial = Serial::start(&log, outputs).map_err(at(&log))?;

        let deadline = within(60);
        let qmp = connect(&qmp, &serial, deadline)
            .and_then(|stream| Qmp::start(stream, deadline))
            .map_err(|source| BootError::Qemu { said: serial.tail(20), source })?;
        let bridge = match bridge {
            Some(listener) => {
                let stream = connect(&listener, &serial, deadline)
                    .map_err(|source| BootError::Qemu { said: serial.tail(20), source })?;
                Some(Bridge::start(stream).map_err(BootError::Bridge)?)
            }
            None => None,
        };
        let config = Config {
            size: config.size,
            accelerator: config.accelerator,
            log_folder: config.log_folder,
            name: config.name,
            initramfs: config.initramfs,
            pictures: AtomicU32::new(0),
            reports: AtomicU32::new(1),
        };
        Ok(Self { process, serial, qmp, bridge, gateway, _tpm: tpm, config, _folder: folder })
    }

    /// The console.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// QEMU's control socket.
    #[must_use]
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// `zoned` and the host's inside.
    ///
    /// # Panics
    /// When the machine was booted without a bridge.
    #[must_use]
    pub fn zones(&self) -> Zones<'_> {
        Zones(self.bridge.as_ref().expect("the machine was booted with a bridge"))
    }

    /// Whether it was booted with a bridge.
    pub(crate) fn has_bridge(&self) -> bool {
        self.bridge.is_some()
    }

    /// What the demo network counted, as text.
    pub(crate) fn network_counters(&self) -> String {
        self.gateway.as_ref().map_or_else(|| "no network".to_owned(), |it| format!("{:#?}", it.counters()))
    }

    /// New names for a report and its picture, beside the console's log.
    pub(crate) fn evidence_paths(&self) -> (PathBuf, PathBuf) {
        let number = self.config.reports.fetch_add(1, Ordering::Relaxed);
        let name = |end| self.config.log_folder.join(format!("{}-evidence-{number}.{end}", self.config.name));
        (name("txt"), name("png"))
    }

    /// The demo network.
    ///
    /// # Panics
    /// When the machine was booted without one.
    #[must_use]
    pub fn gateway(&self) -> &gateway::Gateway {
        self.gateway.as_ref().expect("the machine was booted with a demo network")
    }

    /// The segments of its initramfs.
    #[must_use]
    pub fn initramfs(&self) -> &[PathBuf] {
        &self.config.initramfs
    }

    /// The moment `seconds` from now, where seconds are those of a fast machine.
    #[must_use]
    pub fn within(&self, seconds: u32) -> Instant {
        within(u64::from(seconds) * u64::from(self.config.accelerator.patience()))
    }

    /// The screen as it is now. The PNG file stays in the log folder under this name.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn look(&self, name: &str) -> Result<Picture, LookError> {
        let path = self.picture_path(name);
        self.qmp.screendump(&path, self.within(30))?;
        Ok(Picture::read(&path)?)
    }

    /// Looks until the screen shows what `shows` wants, and returns that picture; `wanted` says in words what
    /// it is, `name` names its file.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn look_until(
        &self,
        name: &str,
        wanted: &str,
        deadline: Instant,
        mut shows: impl FnMut(&Picture) -> bool,
    ) -> Result<Picture, LookError> {
        loop {
            let picture = self.look(name)?;
            if shows(&picture) {
                return Ok(picture);
            }
            if Instant::now() >= deadline {
                let picture = self.picture_path(name);
                return Err(LookError::Deadline { wanted: wanted.to_owned(), picture });
            }
            self.serial.pause(LOOK_AGAIN);
        }
    }

    /// Touches the screen at a pixel.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn tap(&self, x: u32, y: u32) -> Result<(), QmpError> {
        self.qmp.tap((x, y), self.config.size, self.within(10))
    }

    /// Size of the screen in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.config.size
    }

    /// The process id of QEMU, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The host's memory, when it was booted with [`crate::memory::arguments`].
    ///
    /// # Errors
    /// QEMU is gone, or keeps its memory elsewhere.
    pub fn memory(&self) -> io::Result<Memory> {
        Memory::of(self.process_id().ok_or_else(|| io::Error::other("QEMU is gone"))?)
    }

    /// Waits until QEMU ended by itself, because the host powered off or its kernel panicked.
    pub fn wait_for_end(&mut self, deadline: Instant) -> Option<ExitStatus> {
        self.process.wait(deadline)
    }

    fn picture_path(&self, name: &str) -> PathBuf {
        // Files of two looks at the same time must differ.
        let number = self.config.pictures.load(Ordering::Relaxed);
        let file = if name.is_empty() {
            self.config.pictures.fetch_add(1, Ordering::Relaxed);
            format!("{}-{number}.png", self.config.name)
        } else {
            format!("{}-{name}.png", self.config.name)
        };
        self.config.log_folder.join(file)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = format!(
                "--- the machine's console ends so ({} has all) ---\n{}\n---\n",
                self.serial.path().display(),
                self.serial.tail(SHOWN_LINES)
            );
            // A closed standard error hears nothing.
            let _closed = io::stderr().write_all(text.as_bytes());
        }
    }
}

/// A folder for sockets and temporary files, removed when dropped. Its path is short: those of Unix sockets
/// have 108 bytes.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, BootError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        remove_orphans(&std::env::temp_dir());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bulkhead-{}-{number}", std::process::id()));
        match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(BootError::Prepare { path, source }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind lies in the system's temporary folder.
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of processes that are gone: who ends by a signal cannot clean up.
fn remove_orphans(temporary: &Path) {
    let Ok(entries) = std::fs::read_dir(temporary) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix("bulkhead-")?.split_once('-'))
            .and_then(|(process, number)| Some((process.parse::<u32>().ok()?, number.parse::<u32>().ok()?)));
        if let Some((process, _)) = owner
            && !Path::new("/proc").join(process.to_string()).exists()
        {
            // Another user's, or one that somebody else removes just now.
            let _not_ours = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn concatenate(parts: &[PathBuf], whole: &Path) -> io::Result<()> {
    let mut output = File::create(whole)?;
    for part in parts {
        let mut input = File::open(part)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", part.display())))?;
        let length = io::copy(&mut input, &mut output)?;
        // The kernel takes the next segment from the next multiple of four.
        let padding = usize::try_from(length.next_multiple_of(4) - length).unwrap_or(0);
        output.write_all(&[0; 4][..padding])?;
    }
    Ok(())
}

/// Waits for QEMU to connect; a QEMU that ended is noticed before the deadline.
fn connect(
    listener: &Listener,
    serial: &Serial,
    deadline: Instant,
) -> Result<std::os::unix::net::UnixStream, QmpError> {
    loop {
        match listener.accept(deadline.min(Instant::now() + LOOK_AGAIN)) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => return Err(QmpError::Io(error)),
        }
        if serial.wait_for_end(Instant::now()) {
            return Err(QmpError::Closed);
        }
        if Instant::now() >= deadline {
            return Err(QmpError::Deadline("connecting".to_owned()));
        }
    }
}
