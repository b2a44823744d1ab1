//! What the host itself must not have: a network of its own, a process outside a jail.

use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use harness::Machine;
use test_bridge::network::Namespace;
use test_bridge::processes::{NAMESPACES, Process};

use crate::world::{SERVICES, SOON, World, ensure_connected};

/// Tables of sockets that a network can reach, with the number of lines above the first socket.
const LISTENERS: [(&str, usize); 8] =
    [("tcp", 1), ("tcp6", 1), ("udp", 1), ("udp6", 1), ("udplite", 1), ("raw", 1), ("raw6", 1), ("icmp", 1)];

pub(super) fn no_network(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    machine.zones().wait_until("an address of the uplink", machine.within(SOON), |status| {
        status.uplink.address.is_some()
    })?;
    ensure_no_network(machine)
}

pub(super) fn no_network_with_zones(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    for zone in ["office", "research"] {
        ensure_connected(machine, zone)?;
    }
    ensure_no_network(machine)
}

/// Everything that is wrong is named, not the first thing alone: each defence must show by itself.
fn ensure_no_network(machine: &Machine) -> anyhow::Result<()> {
    let namespaces = machine.zones().namespaces(machine.within(SOON))?;
    let processes = machine.zones().processes(machine.within(SOON))?;
    let mut wrong = Vec::new();
    for namespace in &namespaces {
        let members: Vec<&str> = processes
            .iter()
            // Threads of the kernel have no program.
            .filter(|process| namespace.processes.contains(&process.pid) && !process.program.is_empty())
            .map(|process| process.name.as_str())
            .collect();
        let complaints = complaints(namespace);
        wrong.extend(complaints.into_iter().map(|text| format!("network namespace of {members:?}: {text}")));
    }
    let with_nic: Vec<&Namespace> =
        namespaces.iter().filter(|namespace| !interfaces(namespace).is_empty()).collect();
    if with_nic.len() != 1 {
        wrong.push(format!("{} namespaces have a network interface, not one", with_nic.len()));
    }
    let owners = with_nic.iter().flat_map(|namespace| &namespace.processes);
    for pid in owners {
        let owner = processes.iter().find(|process| process.pid == *pid);
        let name = owner.map_or("", |process| process.name.as_str());
        if name != "uplink" {
            wrong.push(format!("{name} (pid {pid}) lives in the NIC's namespace, where only uplink may"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Interfaces other than the loopback's.
fn interfaces(namespace: &Namespace) -> Vec<String> {
    let table = namespace.files.get("dev").map_or("", String::as_str);
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| name != "lo").collect()
}

/// Files without which a namespace was not looked at.
const NEEDED: [&str; 8] = ["dev", "route", "fib_trie", "arp", "tcp", "udp", "raw", "snmp"];

/// What a namespace has of the kernel's own protocols: an address, a route, a neighbour, a socket, or a packet
/// that came as far as them.
fn complaints(namespace: &Namespace) -> Vec<String> {
    let lines = |file: &str, heading: usize| -> Vec<&str> {
        let text = namespace.files.get(file).map_or("", String::as_str);
        text.lines().skip(heading).filter(|line| !line.trim().is_empty()).collect()
    };
    let mut found: Vec<String> = NEEDED
        .iter()
        .filter(|file| !namespace.files.contains_key(**file))
        .map(|file| format!("its {file} cannot be read"))
        .collect();
    let mut none = |what: &str, lines: Vec<&str>| {
        if !lines.is_empty() {
            found.push(format!("{what}: {lines:?}"));
        }
    };
    let not_loopback = |line: &&str| line.split_whitespace().last() != Some("lo");
    none("the kernel has IPv6", lines("tcp6", 0).into_iter().take(1).collect());
    none("IPv6 routes", lines("ipv6_route", 0).into_iter().filter(not_loopback).collect());
    none("IPv6 addresses", lines("if_inet6", 0).into_iter().filter(not_loopback).collect());
    none("IPv4 routes", lines("route", 1));
    let nodes = lines("fib_trie", 0).into_iter().filter_map(|line| line.trim().strip_prefix("|-- "));
    let harmless =
        |node: &&str| node.parse().is_ok_and(|node: Ipv4Addr| node.is_loopback() || node.is_unspecified());
    none("IPv4 addresses", nodes.filter(|node| !harmless(node)).collect());
    none("neighbours", lines("arp", 1));
    for (file, heading) in LISTENERS {
        none(&format!("{file} sockets"), lines(file, heading));
    }
    // The uplink's one is the only way in and out.
    let allowed = usize::from(!interfaces(namespace).is_empty());
    none("packet sockets", lines("packet", 1).into_iter().skip(allowed).collect());
    let received = received_packets(namespace.files.get("snmp").map_or("", String::as_str));
    if received != Some(0) && !interfaces(namespace).is_empty() {
        found.push(format!("the kernel's IPv4 saw {received:?} packets: nothing drops them at ingress"));
    }
    found
}

/// `InReceives` of `Ip` in a table of names and numbers, two lines a protocol (RFC 1213).
fn received_packets(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let place = lines.next()?.split(' ').position(|name| name == "InReceives")?;
    lines.next()?.split(' ').nth(place)?.parse().ok()
}

pub(super) fn jailed(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    for zone in ["office", "research"] {
        ensure_connected(machine, zone)?;
    }
    let processes = machine.zones().processes(machine.within(SOON))?;
    let init = processes.iter().find(|process| process.pid == 1).context("there is a process 1")?;
    let ours: Vec<&Process> = processes
        .iter()
        // Threads of the kernel have no program.
        .filter(|process| process.pid != 1 && process.parent != 2 && process.pid != 2)
        .filter(|process| process.name != "test_bridge")
        .collect();
    let mut wrong = Vec::new();
    for process in &ours {
        let name = format!("{} (pid {})", process.name, process.pid);
        wrong.extend(missing(process, init, &ours).into_iter().map(|text| format!("{name}: {text}")));
    }
    for (name, user) in SERVICES {
        let found = ours.iter().filter(|process| process.user == user).count();
        if found != 1 {
            wrong.push(format!("{found} processes of {name} (user {user})"));
        }
    }
    // Four services, and three processes for each of two zones.
    if ours.len() < 10 {
        wrong.push(format!("only {} processes were seen", ours.len()));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Walls of its jail that a process lacks, as far as /proc shows them (Landlock does not show there: the tests
/// of `zones/jail` try it).
fn missing(process: &Process, init: &Process, all: &[&Process]) -> Vec<String> {
    let shares = |other: &&&Process| other.pid != process.pid && other.user == process.user;
    let capabilities =
        [process.effective, process.permitted, process.bounding, process.inheritable, process.ambient];
    let maps = [process.user, process.group].map(|number| format!("{number} {number} 1"));
    let group = match process.user {
        2000.. => format!("/zone-{}", (process.user - 2000) / 16),
        _ => format!("/{}", process.name),
    };
    let walls = [
        (process.user != 0 && process.group != 0, format!("user {}, group {}", process.user, process.group)),
        (!all.iter().any(|other| shares(&other)), format!("shares user {}", process.user)),
        (process.no_new_privileges, "could gain privileges".to_owned()),
        (process.seccomp == 2, format!("its system calls are not filtered (mode {})", process.seccomp)),
        (capabilities == [0; 5], format!("capabilities {capabilities:x?}")),
        (process.root != "/" && !process.root.is_empty(), format!("sees the root folder {}", process.root)),
        (
            process.namespaces.len() == NAMESPACES.len(),
            format!("its namespaces are {:?}", process.namespaces),
        ),
        (process.maps == maps, format!("its user namespace maps {:?}", process.maps)),
        (
            process.control_group == group,
            format!("is in the control group {:?}, not {group}", process.control_group),
        ),
    ];
    let mut missing: Vec<String> =
        walls.into_iter().filter(|(stands, _)| !stands).map(|(_, lack)| lack).collect();
    for namespace in process.namespaces.iter().chain([&process.network]) {
        let others = all.iter().copied().chain([init]).filter(|other| other.pid != process.pid);
        let with = others.filter(|other| other.network == *namespace || other.namespaces.contains(namespace));
        missing.extend(with.map(|other| format!("shares {namespace} with {}", other.name)));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_anything_in_it_is_complained_of() {
        let quiet = [
            ("dev", "Inter-|\n face |\n    lo: 0\n  eth0: 5\n"),
            ("route", "Iface\n"),
            ("fib_trie", "Main:\n  +-- 0.0.0.0/0\n     |-- 127.0.0.1\n"),
            ("arp", "IP address\n"),
            ("tcp", "  sl\n"),
            ("udp", "  sl\n"),
            ("raw", "  sl\n"),
            ("packet", "sk\nffff 3\n"),
            ("snmp", "Ip: Forwarding InReceives\nIp: 2 0\nIcmp: InMsgs\nIcmp: 9\n"),
        ];
        let check = |file: &str, text: &str, expected: &[&str]| {
            let mut files: std::collections::BTreeMap<String, String> =
                quiet.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
            files.insert(file.to_owned(), text.to_owned());
            let namespace = Namespace { name: "net:[1]".to_owned(), processes: vec![7], files };
            let found = complaints(&namespace);
            let begins = found.iter().zip(expected).all(|(text, begin)| text.starts_with(begin));
            assert!(found.len() == expected.len() && begins, "{file}: {found:?}");
        };
        check("route", "Iface\n", &[]);
        check("dev", "", &["packet sockets"]);
        check("route", "Iface\neth0 0\n", &["IPv4 routes"]);
        check("fib_trie", "|-- 192.168.127.5\n", &["IPv4 addresses"]);
        check("arp", "IP address\n192.168.77.1\n", &["neighbours"]);
        check("tcp", "  sl\n 0: 00000000:0016\n", &["tcp sockets"]);
        check("tcp6", "  sl\n", &["the kernel has IPv6"]);
        check("packet", "sk\nffff 3\nfffe 3\n", &["packet sockets"]);
        check("snmp", "Ip: Forwarding InReceives\nIp: 2 7\n", &["the kernel's IPv4 saw Some(7)"]);
        check("snmp", "Tcp: x\n", &["the kernel's IPv4 saw None"]);
        let nothing = Namespace { name: String::new(), processes: Vec::new(), files: [].into() };
        assert_eq!(complaints(&nothing).len(), NEEDED.len());
    }
}
