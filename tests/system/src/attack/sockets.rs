//! The same attacks by ordinary sockets: what any program in a zone could do.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use gateway::addresses::{HOST, ROUTER, Site};
use gateway::dns;

/// How long one attempt to connect may take: what matters is that it was tried.
const CONNECT: Duration = Duration::from_millis(200);

/// Tries each; returns how many datagrams the zone's kernel took and which connections came about.
#[must_use]
pub fn attack(marker: &str, victims: &[Ipv4Addr]) -> (usize, Vec<SocketAddr>) {
    let name = format!("{marker}.example");
    let query = dns::build_query(0x6667, &name, dns::TYPE_A);
    let mut datagrams: Vec<(SocketAddr, &[u8])> = Vec::new();
    let mut streams: Vec<SocketAddr> = Vec::new();
    for server in [Ipv4Addr::new(8, 8, 8, 8), ROUTER] {
        datagrams.push(((server, 53).into(), &query));
        streams.push((server, 53).into());
    }
    let addresses = [
        "255.255.255.255:5000",
        "192.168.77.255:5000",
        "224.0.0.251:5353",
        "239.255.255.250:1900",
        "[ff02::1]:5353",
        "[ff02::fb]:5353",
        "[2001:4860:4860::8888]:53",
    ];
    datagrams.extend(addresses.iter().filter_map(|text| Some((text.parse().ok()?, name.as_bytes()))));
    for host in [HOST, ROUTER].iter().chain(victims) {
        datagrams.push(((*host, 9).into(), name.as_bytes()));
        streams.extend([22, 80, 443].map(|port| SocketAddr::from((*host, port))));
    }
    datagrams.extend(Site::ALL.map(|site| (site.endpoint().into(), name.as_bytes())));

    let taken = datagrams.iter().filter(|(to, payload)| send(*to, payload).is_ok()).count();
    let connected =
        streams.into_iter().filter(|to| TcpStream::connect_timeout(to, CONNECT).is_ok()).collect();
    (taken, connected)
}

fn send(to: SocketAddr, payload: &[u8]) -> std::io::Result<()> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_broadcast(true)?;
    socket.send_to(payload, to).map(drop)
}
