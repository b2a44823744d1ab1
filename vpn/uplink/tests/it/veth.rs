//! The real program on a real packet socket: two network namespaces joined by a veth pair.
//!
//! Needs root, `ip` and `python3`: Python opens the packet sockets (as `init` does on the appliance), so that
//! no unsafe code is needed here. Without them the test prints why it was skipped.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipc::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use vpn_protocol::{Endpoint, FromUplink, Host, ToUplink};

use crate::lan::{HOST, Lan, ROUTER};
use crate::observer::{Observer, Seen};

const OURS: [u8; 6] = [0x52, 0x54, 0, 0xab, 0xcd, 0xef];
const OFFICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 10), 51820);

/// Stands in for `init`: packet socket, MAC address and control channel (its stdin) at 3, 4 and 5.
const INIT: &str = r#"
import os, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
s.bind((sys.argv[2], 3))
m = os.memfd_create("mac")
os.write(m, bytes.fromhex(sys.argv[3]))
fds = [os.dup(s.fileno()), os.dup(m), os.dup(0)]
high = [os.dup2(fd, 20 + i) for i, fd in enumerate(fds)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.closerange(6, 30)
os.environ["BULKHEAD_FDS"] = "packet0,mac0,control"
os.execv(sys.argv[1], [sys.argv[1]])
"#;

/// The far end of the wire: frames between a packet socket and the stream at stdin, with their length.
const WIRE: &str = r#"
import select, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(263, 23, 1)
s.bind((sys.argv[1], 3))
t = socket.socket(fileno=0)
def exactly(n):
    data = b""
    while len(data) < n:
        part = t.recv(n - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data
while True:
    for ready in select.select([s, t], [], [])[0]:
        if ready is s:
            frame = s.recv(65536)
            t.sendall(len(frame).to_bytes(4, "big") + frame)
        else:
            s.send(exactly(int.from_bytes(exactly(4), "big")))
"#;

/// A namespace or process of this test, gone when it is dropped.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        run(&["netns", "del", &self.0]);
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn wait_readable(fd: &impl std::os::fd::AsFd, seconds: i64) -> bool {
    let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

fn namespace(name: &str, own: &str, address: &str) -> Option<Namespace> {
    run(&["netns", "del", name]);
    if !run(&["netns", "add", name]) {
        return None;
    }
    let namespace = Namespace(name.to_owned());
    // As on the appliance: no IPv6 and no address of the kernel's own.
    let quiet = Command::new("ip")
        .args(["netns", "exec", name, "sh", "-c"])
        .arg("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        .status()
        .is_ok_and(|status| status.success());
    let moved = run(&["link", "set", own, "netns", name]);
    let ready = quiet && moved && run(&["-n", name, "link", "set", own, "address", address, "up"]);
    ready.then_some(namespace)
}

/// Answers frames until the stream ends; hands over what was seen.
fn serve(wire: &UnixStream) -> Vec<Seen> {
    use std::io::{Read, Write};
    let mut wire = wire;
    let mut lan = Lan::default();
    lan.names.insert("office.gateway.example".to_owned(), (*OFFICE.ip()).into());
    let observer = Observer {
        mac: OURS,
        address: HOST,
        servers: vec![ROUTER],
        names: vec!["office.gateway.example".to_owned()],
        endpoints: vec![OFFICE],
    };
    let mut seen = Vec::new();
    let mut length = [0; 4];
    while wire.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        wire.read_exact(&mut frame).unwrap();
        seen.push(observer.judge(&frame).unwrap_or_else(|reason| panic!("leak: {reason}: {frame:02x?}")));
        for answer in lan.answer(&frame) {
            wire.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            wire.write_all(&answer).unwrap();
        }
    }
    seen
}

#[test]
fn the_program_on_a_real_packet_socket() {
    let id = std::process::id();
    let (near, far) = (format!("ulan{id}"), format!("ufar{id}"));
    let python = Command::new("python3").arg("-V").output().is_ok_and(|output| output.status.success());
    if !rustix::process::geteuid().is_root() || !python {
        println!("skipped: needs root, and python3 to open packet sockets");
        return;
    }
    if !run(&["link", "add", &near, "type", "veth", "peer", "name", &far]) {
        println!("skipped: no veth pair can be made here");
        return;
    }
    let (Some(inside), Some(outside)) =
        (namespace(&near, &near, "52:54:00:ab:cd:ef"), namespace(&far, &far, "52:54:00:00:00:01"))
    else {
        run(&["link", "del", &near]);
        println!("skipped: no network namespaces can be made here");
        return;
    };

    let (wire, wire_far) = UnixStream::pair().unwrap();
    wire.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let relay = Command::new("ip")
        .args(["netns", "exec", &outside.0, "python3", "-c", WIRE, &far])
        .stdin(OwnedFd::from(wire_far))
        .spawn();
    let relay = Running(relay.unwrap());
    let wire_copy = wire.try_clone().unwrap();
    let lan = std::thread::spawn(move || serve(&wire_copy));

    let (control, control_far) = Channel::pair().unwrap();
    let program = Command::new("ip")
        .args(["netns", "exec", &inside.0, "python3", "-c", INIT, env!("CARGO_BIN_EXE_uplink"), &near])
        .arg("525400abcdef")
        .stdin(control_far.into_descriptor())
        .spawn();
    let program = Running(program.unwrap());

    let (vpnd, pair) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let endpoint = Endpoint { host: Host::Name("office.gateway.example".to_owned()), port: OFFICE.port() };
    let add = ToUplink::AddTunnel { tunnel: 5, endpoints: vec![endpoint] };
    control.send(&add, &[std::os::fd::AsFd::as_fd(&pair)]).unwrap();
    drop(pair);
    loop {
        assert!(wait_readable(&control, 30), "the uplink never became ready");
        let (state, _): (FromUplink, _) = control.receive().unwrap();
        if state.tunnels == [(5, vec![Some(SocketAddr::V4(OFFICE))])] {
            assert_eq!(state.address, Some((HOST.into(), 24)));
            break;
        }
    }
    for payload in [&b"\0hello"[..], &[0; 1473]] {
        send(&vpnd, payload, SendFlags::empty()).unwrap();
        assert!(wait_readable(&vpnd, 10), "no datagram came back");
        let mut buffer = [0; 2000];
        let (_, length) = recv(&vpnd, &mut buffer[..], RecvFlags::empty()).unwrap();
        let expected: Vec<u8> = std::iter::once(0).chain(payload[1..].iter().rev().copied()).collect();
        assert_eq!(&buffer[..length], expected);
    }
    // The `vpnd` goes: so does its tunnel.
    drop(vpnd);
    loop {
        assert!(wait_readable(&control, 10), "the tunnel outlived its vpnd");
        let (state, _): (FromUplink, _) = control.receive().unwrap();
        if state.tunnels.is_empty() {
            break;
        }
    }
    drop(program);
    drop(relay);
    wire.shutdown(std::net::Shutdown::Both).unwrap();
    let seen = lan.join().unwrap();
    for kind in [Seen::Dhcp, Seen::Dns, Seen::ArpRequest, Seen::Tunnel] {
        assert!(seen.contains(&kind), "{kind:?} was never seen in {seen:?}");
    }
}
