//! What hostile bytes reach, as plain functions: one target for each way in.
//!
//! A target is an ordinary caller of the crate that it attacks. It feeds the input to it and checks what must
//! hold whatever came: no panic, an end, and as little output as promised. `./bulkhead fuzz` searches inputs
//! that reach new code (`fuzz_engine`, libFuzzer); `./bulkhead test` replays the committed ones in
//! `corpus/<target>/` and fails when one breaks a promise. An input that once broke something stays there.
//!
//! Nothing here sleeps, touches the network or leaves a file behind.

mod audits;
pub mod cursor;
mod devices;
mod firmware;
mod guest;
mod kernel;
mod messages;
mod net;
mod packets;
mod pci;
mod tpm;
mod tunnels;
mod uplinks;
mod vpnds;
mod zones;

/// One way in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name; its inputs are in the folder of this name.
    pub name: &'static str,
    /// Who attacks what.
    pub attacks: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "agent_link", attacks: "zoned's agent link, by a guest's stream", run: zones::agent_link },
    Target { name: "audit_log", attacks: "the audit log, by the bytes on its disk", run: audits::audit_log },
    Target { name: "balloon", attacks: "free page reporting, by a guest's reports", run: devices::balloon },
    Target { name: "block", attacks: "the disk, by a guest's requests and registers", run: devices::block },
    Target {
        name: "chains",
        attacks: "the walk of descriptor chains, by a guest's rings",
        run: devices::chains,
    },
    Target {
        name: "configs",
        attacks: "configurations of VMM and vpnd, by their bytes",
        run: messages::configs,
    },
    Target {
        name: "console",
        attacks: "the console, by a guest's requests and registers",
        run: devices::console,
    },
    Target {
        name: "console_text",
        attacks: "what shows a guest's and a process's output",
        run: zones::console_text,
    },
    Target {
        name: "firmware",
        attacks: "the zone firmware, by record, vTPM, kernel and start information",
        run: firmware::firmware,
    },
    Target {
        name: "gateway",
        attacks: "ARP, DHCP, DNS, ND and ICMP for a zone, by whole packets",
        run: tunnels::gateway,
    },
    Target {
        name: "ipc",
        attacks: "every message between our processes, by packets with descriptors",
        run: messages::ipc,
    },
    Target {
        name: "kernel",
        attacks: "the VMM's loader, by firmware, kernel and initrd",
        run: kernel::kernel,
    },
    Target { name: "login_record", attacks: "the login record, by its bytes", run: firmware::login_record },
    Target { name: "net_front", attacks: "the VMM's network device, by a hostile vpnd", run: net::net_front },
    Target {
        name: "pci",
        attacks: "configuration space, BARs and MSI-X, by a guest's accesses",
        run: pci::pci,
    },
    Target { name: "policy", attacks: "the policy's parser, by its text", run: messages::policy },
    Target { name: "power", attacks: "the power ports, by a guest's accesses", run: pci::power },
    Target { name: "pvpanic", attacks: "the panic device, by a guest's accesses", run: pci::pvpanic },
    Target { name: "rng", attacks: "the source of random numbers, by a guest's requests", run: devices::rng },
    Target {
        name: "tpm_crb",
        attacks: "the TPM's interface, by a guest's accesses and a TPM's answers",
        run: tpm::tpm_crb,
    },
    Target {
        name: "tunnel_datagrams",
        attacks: "the tunnel, by gateways and strangers",
        run: tunnels::tunnel_datagrams,
    },
    Target {
        name: "tunnel_frames",
        attacks: "the tunnel, by a zone's raw frames",
        run: tunnels::tunnel_frames,
    },
    Target {
        name: "uplink_answers",
        attacks: "the uplink, by DHCP, ARP and DNS servers",
        run: uplinks::uplink_answers,
    },
    Target {
        name: "uplink_frames",
        attacks: "the uplink, by raw frames and a vpnd's packets",
        run: uplinks::uplink_frames,
    },
    Target { name: "varlink", attacks: "zoned's Varlink server, by its clients", run: zones::varlink },
    Target {
        name: "varlink_reply",
        attacks: "the client of the Varlink interface, by replies",
        run: zones::varlink_reply,
    },
    Target {
        name: "vhost_back",
        attacks: "vpnd, by vhost-user messages of a hostile VMM",
        run: vpnds::vhost_back,
    },
    Target { name: "vpnd_rings", attacks: "vpnd, by a guest's rings and frames", run: vpnds::vpnd_rings },
    Target {
        name: "vsock",
        attacks: "the stream sockets, by a guest's packets and registers",
        run: devices::vsock,
    },
    Target {
        name: "zone_protocol",
        attacks: "frames between zoned and agent, by a stream",
        run: messages::zone_protocol,
    },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
