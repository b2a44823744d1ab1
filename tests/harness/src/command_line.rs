//! QEMU's command line for one Bulkhead host. Pure: paths in, words out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::accelerator::Accelerator;

/// MAC address of the host's NIC.
pub const HOST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x77, 0x00, 0x14];

/// How to start QEMU on this machine.
#[derive(Clone, Debug, Default)]
pub struct QemuProgram {
    /// The program and what must stand before all other arguments: a loader, `-L` folders.
    pub command: Vec<OsString>,
    /// Variables for its environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl QemuProgram {
    /// QEMU in an unpacked Debian root, run through that root's own loader: no chroot, no privileges.
    #[must_use]
    pub fn in_root(root: &Path) -> Self {
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut paths = libraries.clone().into_os_string();
        paths.push(":");
        paths.push(libraries.join("pulseaudio"));
        let mut command: Vec<OsString> = vec![
            root.join("lib64/ld-linux-x86-64.so.2").into(),
            "--library-path".into(),
            paths,
            root.join("usr/bin/qemu-system-x86_64").into(),
        ];
        for folder in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.push("-L".into());
            command.push(root.join(folder).into());
        }
        // Screens are modules, which QEMU looks for beside the program that it thinks it is: the loader.
        let modules = ("QEMU_MODULE_DIR".into(), libraries.join("qemu").into());
        Self { command, environment: vec![modules] }
    }
}

/// Where the host's picture goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Nowhere: tests take screenshots.
    None,
    /// A window of the user's desktop.
    Window,
    /// VNC on this display number of the loopback address.
    Vnc(u16),
}

/// What the user points with. With both, QEMU sends clicks to the wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// A touch screen, for tests.
    Touch,
    /// A tablet, for people with a mouse.
    Tablet,
}

/// Everything that decides the command line.
#[derive(Clone, Debug)]
pub struct HostDevices {
    /// How it runs.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub processors: u8,
    /// The kernel: bzImage, or ELF with PVH entry.
    pub kernel: PathBuf,
    /// The whole initramfs.
    pub initramfs: PathBuf,
    /// What QEMU is given for a kernel, if it must not place kernel and initramfs itself (see `stub`).
    pub stub: Option<PathBuf>,
    /// The kernel's command line.
    pub kernel_arguments: String,
    /// The data disk, a raw image that is never written: changes go to a temporary file.
    pub data_disk: Option<PathBuf>,
    /// Where the picture goes.
    pub screen: Screen,
    /// Size of the screen in pixels.
    pub size: (u32, u32),
    /// What the user points with.
    pub pointer: Pointer,
    /// The demo network's socket; without it there is no NIC.
    pub network: Option<PathBuf>,
    /// Socket of QMP, on which we listen.
    pub qmp: PathBuf,
    /// Socket of the test bridge's port, on which we listen; without it there is no port.
    pub bridge: Option<PathBuf>,
    /// Control socket of the TPM, on which swtpm listens; without it there is no TPM.
    pub tpm: Option<PathBuf>,
    /// What stands at the end, for tests of one device.
    pub more: Vec<OsString>,
}

/// The words of the command line.
#[must_use]
pub fn arguments(host: &HostDevices) -> Vec<OsString> {
    let mut words = Words::default();
    words.plain(host.accelerator.arguments());
    words.plain(&["-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot"]);
    words.pair("-smp", host.processors.to_string());
    words.pair("-m", host.memory_mib.to_string());
    if let Some(stub) = &host.stub {
        words.pair("-kernel", stub);
        words.pair("-device", with_path("loader,file=", &host.kernel));
        let mut initramfs = with_path("loader,file=", &host.initramfs);
        initramfs.push(format!(",addr={:#x},force-raw=on", crate::stub::INITRAMFS));
        words.pair("-device", initramfs);
    } else {
        words.pair("-kernel", &host.kernel);
        words.pair("-initrd", &host.initramfs);
    }
    words.pair("-append", &host.kernel_arguments);
    words.plain(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    words.pair("-chardev", with_path("socket,id=qmp,path=", &host.qmp));
    words.plain(&["-mon", "chardev=qmp,mode=control", "-device", "virtio-rng-pci"]);

    let (width, height) = host.size;
    words.pair("-device", format!("virtio-vga,xres={width},yres={height}"));
    words.pair(
        "-display",
        match host.screen {
            Screen::None => "none".to_owned(),
            Screen::Window => "gtk".to_owned(),
            Screen::Vnc(display) => format!("vnc=127.0.0.1:{display}"),
        },
    );
    words.plain(match host.pointer {
        Pointer::Touch => &["-device", "virtio-multitouch-pci", "-device", "virtio-keyboard-pci"],
        Pointer::Tablet => &["-device", "virtio-tablet-pci", "-device", "virtio-keyboard-pci"],
    });

    if let Some(disk) = &host.data_disk {
        words.pair("-drive", with_path("if=none,id=data,format=raw,snapshot=on,file=", disk));
        words.plain(&["-device", "virtio-blk-pci,drive=data,serial=data"]);
    }
    if let Some(socket) = &host.network {
        words.pair("-netdev", with_path("stream,id=n0,server=off,addr.type=unix,addr.path=", socket));
        let [a, b, c, d, e, f] = HOST_MAC;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        words.pair("-device", format!("virtio-net-pci,netdev=n0,mac={mac}"));
    }
    if let Some(socket) = &host.bridge {
        words.plain(&["-device", "virtio-serial-pci"]);
        words.pair("-chardev", with_path("socket,id=bridge,path=", socket));
        words.pair("-device", format!("virtserialport,chardev=bridge,name={}", test_bridge::PORT));
    }
    if let Some(socket) = &host.tpm {
        words.pair("-chardev", with_path("socket,id=tpm,path=", socket));
        words.plain(&["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]);
    }
    words.0.extend(host.more.iter().cloned());
    words.0
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn plain(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.0.extend([option.into(), value.as_ref().to_owned()]);
    }
}

/// A path inside a comma-separated option: QEMU reads a doubled comma as one.
fn with_path(before: &str, path: &Path) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    format!("{before}{path}").into()
}

#[cfg(test)]
mod tests;
