//! The fixed table of processes: who they are and what they may do.
//!
//! The lists of system calls are meant to be short. When a process is killed for a call, init names it on the
//! console ("vmm office: made a forbidden system call (257 openat)"): add it to the row's own list, or to the
//! group in `jail::calls` when every user of the group needs it. Only the VMM makes threads; what each of them may
//! do of its row is in `jail::roles`.

use init_protocol::ZoneProfile;
use jail::calls::{
    ACCEPT, BASIC, CHANGE_PATHS, DRM, EVDEV, FILE_IO, INTERFACE_STATE, KILL, KVM, LOADER, MEMORY_SIZE,
    NARROW, OPEN_PATHS, SOCKET_IO, SWTPM as SWTPM_CALLS, THREADS, UNIX_CONNECT,
};
use jail::{Isolation, PathAccess, PathRule, Profile};

use crate::groups::Limits;
use crate::mounts::{
    DESKTOP_ROOT, EMPTY_ROOT, KEEPER_DEVICES, KEEPER_ROOT, KEEPER_STATE, LIBRARIES, SWTPM_ROOT, VARLINK,
    ZONED_ROOT,
};

/// User of `zoned`.
pub(crate) const ZONED_USER: u32 = 101;
/// User of the desktop.
pub(crate) const DESKTOP_USER: u32 = 102;

/// User of `keeper`.
pub(crate) const KEEPER_USER: u32 = 103;

/// The services of the host, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    /// The owner of the NIC.
    Uplink,
    /// The owner of TPMs.
    Keeper,
    /// The lifecycle of zones.
    Zoned,
    /// Screen and input.
    Desktop,
    /// The tests' way in; only in test images.
    TestBridge,
}

/// All of them.
pub(crate) const SERVICES: [Service; 5] =
    [Service::Uplink, Service::Keeper, Service::Zoned, Service::Desktop, Service::TestBridge];

impl Service {
    /// Its user.
    pub(crate) fn user(self) -> u32 {
        match self {
            Self::Uplink => 100,
            Self::Keeper => KEEPER_USER,
            Self::Zoned => ZONED_USER,
            Self::Desktop => DESKTOP_USER,
            Self::TestBridge => 0,
        }
    }

    /// Its row.
    pub(crate) fn profile(self) -> &'static Profile {
        match self {
            Self::Uplink => &UPLINK,
            Self::Keeper => &KEEPER,
            Self::Zoned => &ZONED,
            Self::Desktop => &DESKTOP,
            Self::TestBridge => &TEST_BRIDGE,
        }
    }
}

/// What a service may use. A zone's limit is made from its guest's memory, see [`zone_limits`].
pub(crate) fn service_limits(service: Service) -> Limits {
    let memory_mib = match service {
        Service::Uplink | Service::Keeper => 64,
        Service::Zoned => 128,
        // Frame buffers of a large screen count.
        Service::Desktop => 512,
        Service::TestBridge => 256,
    };
    Limits { memory_mib, tasks: service.profile().threads, weight: 400 }
}

/// What all processes of a zone may use together. Beside the guest's memory: their own, buffers, and tables of
/// pages (one word for each page of the guest, in each process and in KVM). The kernel takes back what caches
/// the zone's files before it comes to that.
pub(crate) fn zone_limits(guest_mib: u32) -> Limits {
    let memory_mib = u64::from(guest_mib) + u64::from(guest_mib) / 32 + 64;
    Limits { memory_mib, tasks: VMM.threads + VPND.threads + SWTPM.threads, weight: 100 }
}

/// Variables of a row's program: the TSS would say every refusal that `keeper` takes for an answer.
pub(crate) fn environment(profile: &Profile) -> &'static [(&'static str, &'static str)] {
    if profile.program == KEEPER.program { &[("TSS2_LOG", "all+none")] } else { &[] }
}

/// The row of a per-zone profile.
pub(crate) fn zone_profile(profile: ZoneProfile) -> &'static Profile {
    match profile {
        ZoneProfile::Vmm => &VMM,
        ZoneProfile::Vpnd => &VPND,
        ZoneProfile::Swtpm => &SWTPM,
    }
}

const UPLINK: Profile = Profile {
    name: "uplink",
    program: "/bin/uplink",
    arguments: &[],
    root: EMPTY_ROOT,
    isolation: Isolation::Full,
    paths: &[],
    calls: &[BASIC, SOCKET_IO, INTERFACE_STATE],
    capabilities: &[],
    threads: 8,
    files: 128,
};

/// With Debian's libraries: the TSS opens the TPM by its path.
const KEEPER: Profile = Profile {
    name: "keeper",
    program: "/bin/keeper",
    arguments: &[],
    root: KEEPER_ROOT,
    isolation: Isolation::Full,
    paths: &[
        PathRule { path: LIBRARIES, access: PathAccess::Execute },
        PathRule { path: KEEPER_DEVICES, access: PathAccess::ReadWrite },
        PathRule { path: KEEPER_STATE, access: PathAccess::ReadWrite },
    ],
    calls: &[BASIC, SOCKET_IO, LOADER, OPEN_PATHS, CHANGE_PATHS, FILE_IO],
    capabilities: &[],
    threads: 8,
    files: 256,
};

const ZONED: Profile = Profile {
    name: "zoned",
    program: "/bin/zoned",
    arguments: &[],
    root: ZONED_ROOT,
    isolation: Isolation::Full,
    paths: &[
        PathRule { path: "/etc/bulkhead", access: PathAccess::Read },
        PathRule { path: "/data/templates", access: PathAccess::Read },
        PathRule { path: "/data/zones", access: PathAccess::ReadWrite },
    ],
    calls: &[BASIC, SOCKET_IO, ACCEPT, FILE_IO, OPEN_PATHS, CHANGE_PATHS, MEMORY_SIZE],
    capabilities: &[],
    threads: 64,
    files: 1000,
};

const DESKTOP: Profile = Profile {
    name: "desktop",
    program: "/bin/desktop",
    arguments: &[],
    root: DESKTOP_ROOT,
    isolation: Isolation::Full,
    paths: &[PathRule { path: VARLINK, access: PathAccess::Connect }],
    calls: &[BASIC, SOCKET_IO, UNIX_CONNECT, DRM, EVDEV],
    capabilities: &[],
    threads: 32,
    files: 256,
};

/// The bridge kills processes and photographs /proc, the kernel's log and folders: CAP_DAC_READ_SEARCH, CAP_KILL,
/// CAP_SYS_PTRACE, CAP_SYS_ADMIN (without it the kernel hides which frame a page lies in), CAP_SYSLOG.
const TEST_BRIDGE: Profile = Profile {
    name: "test_bridge",
    program: "/bin/test_bridge",
    arguments: &[],
    root: "/",
    isolation: Isolation::SeesProcesses,
    paths: &[],
    calls: &[BASIC, THREADS, SOCKET_IO, UNIX_CONNECT, FILE_IO, OPEN_PATHS, KILL],
    capabilities: &[2, 5, 19, 21, 34],
    threads: 32,
    files: 256,
};

const VMM: Profile = Profile {
    name: "vmm",
    program: "/bin/vmm",
    arguments: &[],
    root: EMPTY_ROOT,
    isolation: Isolation::Full,
    paths: &[],
    calls: &[BASIC, THREADS, SOCKET_IO, FILE_IO, KVM, NARROW],
    capabilities: &[],
    threads: 64,
    files: 512,
};

const VPND: Profile = Profile {
    name: "vpnd",
    program: "/bin/vpnd",
    arguments: &[],
    root: EMPTY_ROOT,
    isolation: Isolation::Full,
    paths: &[],
    calls: &[BASIC, SOCKET_IO, FILE_IO],
    capabilities: &[],
    threads: 16,
    files: 256,
};

/// Another's program, from Debian, with its libraries: all that it is told is here. Descriptor 3 is the control channel,
/// 4 the pipe with the key. Its own filter is a list of what it must not do; ours says what it may.
const SWTPM: Profile = Profile {
    name: "swtpm",
    program: "/bin/swtpm",
    arguments: &[
        "socket",
        "--tpm2",
        "--tpmstate",
        "dir=/state",
        "--ctrl",
        "type=unixio,clientfd=3",
        "--key",
        "fd=4,format=binary,mode=aes-256-cbc,remove=false",
        "--seccomp",
        "action=none",
    ],
    root: SWTPM_ROOT,
    isolation: Isolation::Full,
    paths: &[PathRule { path: LIBRARIES, access: PathAccess::Execute }],
    calls: &[SWTPM_CALLS],
    capabilities: &[],
    threads: 4,
    // It leaves two open at each reset of its guest.
    files: 1000,
};

// By path, because `tests/escape` takes this file by path too.
#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
