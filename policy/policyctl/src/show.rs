//! A policy as text for a person.

use std::io::{self, Write};

use policy::{Login, Network, Policy, Tunnel, Zone};

/// Writes the whole policy.
pub(crate) fn show(out: &mut impl Write, policy: &Policy) -> io::Result<()> {
    writeln!(out, "{}, version {}", policy.name, policy.version)?;
    if policy.demo {
        writeln!(out, "a demonstration: private keys may come from a file that everybody can read")?;
    }
    for zone in &policy.zones {
        writeln!(out)?;
        show_zone(out, zone)?;
    }
    for tunnel in &policy.tunnels {
        writeln!(out)?;
        show_tunnel(out, tunnel)?;
    }
    Ok(())
}

fn show_zone(out: &mut impl Write, zone: &Zone) -> io::Result<()> {
    writeln!(out, "zone {} ({:?}, {})", zone.name, zone.label, colour(zone))?;
    writeln!(
        out,
        "  template {}, memory {} MiB, {} vcpus, disk {} MiB",
        zone.template, zone.memory_mib, zone.vcpus, zone.disk_mib
    )?;
    if zone.disposable {
        writeln!(out, "  disposable: the disk is empty at each start")?;
    }
    if !zone.keep.is_empty() {
        writeln!(out, "  kept beside /home: {}", list(&zone.keep))?;
    }
    writeln!(out, "  user: {}", zone.user)?;
    match zone.login {
        Login::Touch => writeln!(out, "  login: a touch")?,
        Login::Pin { tries, shuffle } => {
            let places = if shuffle { "change places at each use" } else { "keep their places" };
            writeln!(
                out,
                "  login: a PIN, locked after {tries} wrong ones in a row; the pad's digits {places}"
            )?;
        }
    }
    match &zone.network {
        Network::None => writeln!(out, "  network: none, the zone has no NIC"),
        Network::Tunnel(tunnel) => writeln!(out, "  network: tunnel {tunnel} and nothing else"),
    }
}

fn show_tunnel(out: &mut impl Write, tunnel: &Tunnel) -> io::Result<()> {
    writeln!(out, "tunnel {}", tunnel.name)?;
    writeln!(out, "  address {}, mtu {}", list(&tunnel.addresses), tunnel.mtu)?;
    writeln!(out, "  dns {}", if tunnel.dns.is_empty() { "none".to_owned() } else { list(&tunnel.dns) })?;
    for peer in &tunnel.peers {
        let keepalive = peer.keepalive.map_or(String::new(), |seconds| format!(", keepalive {seconds} s"));
        writeln!(out, "  peer {}: {}{keepalive}", peer.endpoint, list(&peer.allowed_ips))?;
    }
    Ok(())
}

fn colour(zone: &Zone) -> String {
    format!("{:?}", zone.colour).to_ascii_lowercase()
}

fn list(items: &[impl std::fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
