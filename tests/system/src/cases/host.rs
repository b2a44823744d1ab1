//! What the host itself must not have: a network of its own, a process outside a jail.

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

fn ensure_no_network(machine: &Machine) -> anyhow::Result<()> {
    let namespaces = machine.zones().namespaces(machine.within(SOON))?;
    let processes = machine.zones().processes(machine.within(SOON))?;
    for namespace in &namespaces {
        let members: Vec<&str> = processes
            .iter()
            .filter(|process| namespace.processes.contains(&process.pid))
            .map(|process| process.name.as_str())
            .collect();
        quiet(namespace).with_context(|| format!("network namespace of {members:?}"))?;
    }
    let with_nic: Vec<&Namespace> =
        namespaces.iter().filter(|namespace| !interfaces(namespace).is_empty()).collect();
    ensure!(with_nic.len() == 1, "{} namespaces have a network interface, not one", with_nic.len());
    let owners = with_nic.iter().flat_map(|namespace| &namespace.processes);
    for pid in owners {
        let owner = processes.iter().find(|process| process.pid == *pid);
        let name = owner.map_or("", |process| process.name.as_str());
        ensure!(name == "uplink", "{name} (pid {pid}) lives in the NIC's namespace, where only uplink may");
    }
    Ok(())
}

/// Interfaces other than the loopback's.
fn interfaces(namespace: &Namespace) -> Vec<String> {
    let table = namespace.files.get("dev").map_or("", String::as_str);
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| name != "lo").collect()
}

/// No address, no route, no neighbour and no socket of the kernel's own protocols.
fn quiet(namespace: &Namespace) -> anyhow::Result<()> {
    let lines = |file: &str, heading: usize| -> Vec<&str> {
        let text = namespace.files.get(file).map_or("", String::as_str);
        text.lines().skip(heading).filter(|line| !line.trim().is_empty()).collect()
    };
    ensure!(namespace.files.contains_key("dev"), "its files cannot be read");
    let loopback = |line: &&str| line.split_whitespace().last() != Some("lo");
    ensure!(!namespace.files.contains_key("tcp6"), "the kernel has IPv6");
    let v6: Vec<&str> = lines("ipv6_route", 0).into_iter().filter(loopback).collect();
    ensure!(v6.is_empty(), "IPv6 routes: {v6:?}");
    let v6: Vec<&str> = lines("if_inet6", 0).into_iter().filter(loopback).collect();
    ensure!(v6.is_empty(), "IPv6 addresses: {v6:?}");
    let v4 = lines("route", 1);
    ensure!(v4.is_empty(), "IPv4 routes: {v4:?}");
    let local: Vec<&str> = lines("fib_trie", 0)
        .into_iter()
        .filter(|line| line.contains("|-- ") && !line.contains("127."))
        .collect();
    let addresses: Vec<&str> = local.into_iter().filter(|line| !line.trim().ends_with(" 0.0.0.0")).collect();
    ensure!(addresses.is_empty(), "IPv4 addresses: {addresses:?}");
    let neighbours = lines("arp", 1);
    ensure!(neighbours.is_empty(), "neighbours: {neighbours:?}");
    for (file, heading) in LISTENERS {
        let sockets = lines(file, heading);
        ensure!(sockets.is_empty(), "{file} sockets: {sockets:?}");
    }
    Ok(())
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
    let mut jailed = 0;
    for process in &ours {
        jail_holds(process, init).with_context(|| format!("{} (pid {})", process.name, process.pid))?;
        jailed += 1;
    }
    for (name, user) in SERVICES {
        let found = ours.iter().filter(|process| process.user == user).count();
        ensure!(found == 1, "{found} processes of {name} (user {user})");
    }
    // Three services, and two processes for each of two zones.
    ensure!(jailed >= 7, "only {jailed} processes were seen");
    let mut users: Vec<u32> = ours.iter().map(|process| process.user).collect();
    users.sort_unstable();
    users.dedup();
    ensure!(users.len() == ours.len(), "processes share users");
    Ok(())
}

fn jail_holds(process: &Process, init: &Process) -> anyhow::Result<()> {
    ensure!(process.user != 0 && process.group != 0, "user {}, group {}", process.user, process.group);
    ensure!(process.no_new_privileges, "it could gain privileges");
    ensure!(process.seccomp == 2, "its system calls are not filtered (mode {})", process.seccomp);
    let capabilities =
        [process.effective, process.permitted, process.bounding, process.inheritable, process.ambient];
    ensure!(capabilities == [0; 5], "capabilities {capabilities:x?}");
    ensure!(process.network != init.network, "it shares init's network namespace");
    ensure!(process.namespaces.len() == NAMESPACES.len(), "namespaces {:?}", process.namespaces);
    let shared = process.namespaces.iter().find(|namespace| init.namespaces.contains(namespace));
    ensure!(shared.is_none(), "it shares {shared:?} with init");
    let maps = [process.user, process.group].map(|number| format!("{number} {number} 1"));
    ensure!(process.maps == maps, "its user namespace maps {:?}", process.maps);
    let group = match process.user {
        2000.. => format!("/zone-{}", (process.user - 2000) / 16),
        _ => format!("/{}", process.name),
    };
    ensure!(process.control_group == group, "it is in the group {:?}, not {group}", process.control_group);
    Ok(())
}
