//! `raw_frames`: an attack that runs as root inside a zone, and the listener for it in another zone. It is a
//! check of the test template: exit code 0 says that the attack was carried out (or that nothing was heard).
//!
//! `raw_frames attack MARKER HOST_MAC SECONDS [VICTIM_MAC VICTIM_IP]...` sends every kind of frame and datagram
//! again and again. `raw_frames listen MARKER SECONDS` takes every frame that reaches the zone's NIC and fails
//! when one contains the marker, or when it hears nothing at all although it asks the zone's DNS server.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use gateway::dns;
use smoltcp::phy::{Device, Medium, RawSocket, RxToken, TxToken};
use system::attack::frames::Attacker;
use system::attack::sockets;

const INTERFACE: &str = "eth0";

/// The MAC address of every zone's gateway, until the zone's kernel has learned it: an attack of one round, on a
/// busy computer, must reach the tunnel too.
const GATEWAY_MAC: [u8; 6] = [0x02, 0x62, 0x68, 0x00, 0x00, 0x01];

/// Between two rounds of an attack, and between two questions of a listener.
const ROUND: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["attack", marker, host_mac, seconds, victims @ ..] => attack(marker, host_mac, seconds, victims),
        ["listen", marker, seconds] => listen(marker, seconds),
        _ => Err(anyhow::anyhow!(
            "usage: raw_frames attack MARKER HOST_MAC SECONDS [MAC IP]... | listen MARKER SECONDS"
        )),
    };
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (format!("{error:#}"), ExitCode::FAILURE),
    };
    // The agent reads it; if it is gone nobody does.
    let _unread = writeln!(std::io::stdout(), "{text}");
    code
}

fn attack(marker: &str, host_mac: &str, seconds: &str, victims: &[&str]) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(seconds.parse().context("number of seconds")?);
    let victims: Vec<([u8; 6], Ipv4Addr)> = victims
        .chunks(2)
        .map(|pair| match pair {
            [mac, address] => Ok((parse_mac(mac)?, address.parse().context("a victim's address")?)),
            _ => bail!("a victim is a MAC address and an IP address"),
        })
        .collect::<anyhow::Result<_>>()?;
    let addresses: Vec<Ipv4Addr> = victims.iter().map(|(_, address)| *address).collect();
    let mut socket = raw_socket()?;
    let mut attacker = Attacker {
        mac: parse_mac(&fs::read_to_string(format!("/sys/class/net/{INTERFACE}/address"))?)?,
        address: Ipv4Addr::new(10, 11, 0, 2),
        gateway_mac: GATEWAY_MAC,
        host_mac: parse_mac(host_mac)?,
        victims,
        marker: marker.to_owned(),
    };
    let (mut frames, mut datagrams, mut connected) = (0, 0, Vec::new());
    loop {
        if let Some(mac) = gateway_mac(&fs::read_to_string("/proc/net/arp").unwrap_or_default()) {
            attacker.gateway_mac = mac;
        }
        for frame in attacker.frames() {
            let token = socket.transmit(smoltcp::time::Instant::ZERO).context("a raw socket always sends")?;
            token.consume(frame.len(), |buffer| buffer.copy_from_slice(&frame));
            frames += 1;
        }
        let (taken, streams) = sockets::attack(marker, &addresses);
        datagrams += taken;
        connected.extend(streams);
        // Whoever listens may begin after us.
        std::thread::park_timeout(ROUND);
        if Instant::now() >= deadline {
            break;
        }
    }
    connected.sort();
    connected.dedup();
    if !connected.is_empty() {
        bail!("connected to {connected:?}");
    }
    Ok(format!("frames: {frames}\ndatagrams: {datagrams}"))
}

fn listen(marker: &str, seconds: &str) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(seconds.parse().context("number of seconds")?);
    let mut socket = raw_socket()?;
    let server = nameserver(&fs::read_to_string("/etc/resolv.conf").context("read resolv.conf")?)?;
    let query = dns::build_query(1, gateway::addresses::INTRANET_NAME, dns::TYPE_A);
    let own = parse_mac(&fs::read_to_string(format!("/sys/class/net/{INTERFACE}/address"))?)?;
    let mut heard = 0;
    let mut ask_next = Instant::now();
    while Instant::now() < deadline {
        if Instant::now() >= ask_next {
            let asking = UdpSocket::bind(("0.0.0.0", 0))?;
            asking.send_to(&query, (server, 53)).context("ask the zone's DNS server")?;
            ask_next += ROUND;
        }
        smoltcp::phy::wait(socket.as_raw_fd(), Some(smoltcp::time::Duration::from(ROUND)))?;
        while let Some((frame, _)) = socket.receive(smoltcp::time::Instant::ZERO) {
            let (sender, marked) = frame.consume(|bytes| {
                let marked = bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
                (bytes.get(6..12).map(<[u8]>::to_vec), marked)
            });
            if marked {
                bail!("a frame with the marker arrived");
            }
            // A raw socket sees what this zone itself sends, too.
            heard += usize::from(sender.as_deref() != Some(&own[..]));
        }
    }
    if heard == 0 {
        bail!("nothing arrived at all: this listener is deaf");
    }
    Ok(format!("heard: {heard}"))
}

/// Frames as they are, in both directions. Root need not wait for the zone's own network set-up.
fn raw_socket() -> anyhow::Result<RawSocket> {
    let up = Command::new("/bin/busybox").args(["ip", "link", "set", INTERFACE, "up"]).status();
    if !up.context("run busybox ip")?.success() {
        bail!("{INTERFACE} does not come up");
    }
    RawSocket::new(INTERFACE, Medium::Ethernet).context("open a raw socket")
}

fn parse_mac(text: &str) -> anyhow::Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{text:?} is no MAC address"))?;
    <[u8; 6]>::try_from(bytes).ok().with_context(|| format!("{text:?} is no MAC address"))
}

/// The first complete entry of `/proc/net/arp`: a zone knows nobody but its gateway.
fn gateway_mac(table: &str) -> Option<[u8; 6]> {
    table.lines().skip(1).find_map(|line| {
        let mac = parse_mac(line.split_whitespace().nth(3)?).ok()?;
        (mac != [0; 6]).then_some(mac)
    })
}

fn nameserver(resolv_conf: &str) -> anyhow::Result<Ipv4Addr> {
    resolv_conf
        .lines()
        .find_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
        .context("resolv.conf names no IPv4 server")
}
