use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use boringtun::x25519::PublicKey;

use crate::addresses::{HOST, ROUTER, Site};
use crate::fake_host::{HOST_MAC, LanHost, Zone, host_datagram, keys, lan_dns};
use crate::frame_codec::{Decoder, encode};
use crate::network::Silence;
use crate::observer::{Allowed, Message, Observer};
use crate::wireguard::Output;
use crate::{Config, DemoNetwork, Direction, Keys, dns, start};

/// Simulated time: one millisecond a step, so nothing waits in real time.
struct Run {
    network: DemoNetwork,
    now: Duration,
    from_host: Vec<Vec<u8>>,
    inner: Vec<(Site, Vec<u8>)>,
}

impl Run {
    fn new() -> Self {
        Self {
            network: DemoNetwork::new(&keys().0),
            now: Duration::ZERO,
            from_host: Vec::new(),
            inner: Vec::new(),
        }
    }

    /// Passes frames in and returns what comes back.
    fn exchange(&mut self, frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(1);
        let mut output = Output::default();
        for frame in frames {
            self.network.receive(self.now, &frame, &mut output);
            self.from_host.push(frame);
        }
        self.network.poll(self.now, &mut output);
        self.inner.extend(output.inner);
        output.frames
    }

    fn step_zone(&mut self, zone: &mut Zone) {
        zone.poll(self.now);
        let frames = std::mem::take(&mut zone.frames);
        for frame in self.exchange(frames) {
            zone.receive(&frame);
        }
    }

    /// Fetches a page inside the tunnel: everything that the server sends.
    fn fetch(&mut self, zone: &mut Zone, server: IpAddr, path: &str) -> Vec<u8> {
        zone.connect(server);
        let mut asked = false;
        let mut response = Vec::new();
        for _ in 0..20_000 {
            self.step_zone(zone);
            let socket = zone.tcp();
            if socket.may_send() && !asked {
                socket.send_slice(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
                asked = true;
            }
            if socket.can_recv() {
                socket
                    .recv(|bytes| {
                        response.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            } else if asked && !socket.may_recv() && !response.is_empty() {
                socket.abort();
                return response;
            }
        }
        panic!("{path}: no whole response in 20 s, got {} bytes", response.len());
    }

    fn step_lan(&mut self, host: &mut LanHost) {
        host.poll(self.now);
        let frames = host.device.outbound.drain(..).collect();
        for frame in self.exchange(frames) {
            host.device.inbound.push_back(frame);
        }
    }
}

fn zone(site: Site) -> Zone {
    let (keys, clients) = keys();
    let gateway = PublicKey::from(&keys.sites[site.index()].gateway);
    Zone::new(site, clients[site.index()].clone(), gateway)
}

#[test]
fn a_real_client_gets_its_lease_and_resolves_the_endpoints() {
    let mut run = Run::new();
    let mut host = LanHost::new();
    while host.address.is_none() && run.now < Duration::from_secs(30) {
        run.step_lan(&mut host);
    }
    assert_eq!(host.address.unwrap().address(), HOST);
    assert_eq!(host.address.unwrap().prefix_len(), 24);
    assert_eq!(host.servers, [IpAddr::V4(ROUTER)]);
    let queries: Vec<_> = ["office.gateway.example", "research.gateway.example", "www.example.com"]
        .map(|name| host.start_query(name))
        .into();
    for _ in 0..2000 {
        run.step_lan(&mut host);
    }
    let answers: Vec<_> = queries.into_iter().map(|query| host.query_result(query).ok()).collect();
    let address = |last| Some(vec![IpAddr::V4(Ipv4Addr::new(198, 51, 100, last))]);
    assert_eq!(answers, [address(10), address(20), None]);
    let counters = run.network.counters();
    assert_eq!((counters.dhcp, counters.dns), (2, 3));
    assert!(counters.arp >= 1, "the client asked for the router");

    let observer = Observer::new(HOST_MAC);
    let leaks: Vec<_> = run.from_host.iter().filter_map(|frame| observer.judge(frame).err()).collect();
    assert_eq!(leaks.len(), 1, "only the third name is none of the host's business: {leaks:?}");
}

#[test]
fn each_site_serves_its_own_page_through_its_own_tunnel() {
    let mut run = Run::new();
    let mut office = zone(Site::Office);
    let page = run.fetch(&mut office, "10.11.0.1".parse().unwrap(), "/");
    assert!(String::from_utf8(page).unwrap().ends_with("\r\n\r\nnetwork: office\nclient: 10.11.0.2\n"));
    let page = run.fetch(&mut office, "fd00:11::1".parse().unwrap(), "/");
    assert!(String::from_utf8(page).unwrap().ends_with("\r\n\r\nnetwork: office\nclient: fd00:11::2\n"));
    let mut research = zone(Site::Research);
    let page = run.fetch(&mut research, "10.12.0.1".parse().unwrap(), "/");
    assert!(String::from_utf8(page).unwrap().ends_with("\r\n\r\nnetwork: research\nclient: 10.12.0.2\n"));

    let counters = run.network.counters();
    assert_eq!(counters.sites.map(|site| (site.handshakes, site.requests)), [(1, 2), (1, 1)]);
    let observer = Observer::new(HOST_MAC);
    for frame in &run.from_host {
        assert!(matches!(observer.judge(frame), Ok(Allowed::WireGuard(..))));
    }
    assert!(run.inner.iter().any(|(site, packet)| *site == Site::Office && packet[0] >> 4 == 6));
}

#[test]
fn bytes_are_counted_and_unknown_paths_are_not_there() {
    let mut run = Run::new();
    let mut office = zone(Site::Office);
    let response = run.fetch(&mut office, "10.11.0.1".parse().unwrap(), "/bytes/3000000");
    let body = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(response.len() - body, 3_000_000);
    let response = run.fetch(&mut office, "10.11.0.1".parse().unwrap(), "/nothing");
    assert!(response.starts_with(b"HTTP/1.1 404 "));
}

#[test]
fn a_silent_gateway_says_nothing_until_it_is_told_to_speak() {
    let mut run = Run::new();
    run.network.set_silent(Site::Office, Silence::Silent);
    let mut office = zone(Site::Office);
    office.connect("10.11.0.1".parse().unwrap());
    office.poll(run.now);
    let attempt = std::mem::take(&mut office.frames);
    assert_eq!(
        Observer::new(HOST_MAC).judge(&attempt[0]),
        Ok(Allowed::WireGuard(Site::Office, Message::HandshakeInitiation))
    );
    assert_eq!(run.exchange(attempt.clone()), Vec::<Vec<u8>>::new());
    assert_eq!(run.network.counters().sites[0].ignored_silent, 1);
    run.network.set_silent(Site::Office, Silence::Answering);
    assert_eq!(run.exchange(attempt).len(), 1, "the handshake is answered now");
}

#[test]
fn a_gateway_knows_only_its_own_client_and_only_its_addresses() {
    let mut run = Run::new();
    // The research client's key at office's gateway.
    let (keys, clients) = keys();
    let office_key = PublicKey::from(&keys.sites[0].gateway);
    let mut stranger = Zone::new(Site::Office, clients[1].clone(), office_key);
    stranger.connect("10.11.0.1".parse().unwrap());
    run.step_zone(&mut stranger);
    assert_eq!(run.network.counters().sites[0].handshakes, 0);
    assert_eq!(run.network.counters().sites[0].rejected, 1);

    let mut office = zone(Site::Office);
    run.fetch(&mut office, "10.11.0.1".parse().unwrap(), "/");
    let mut spoofed = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0];
    spoofed.extend_from_slice(&[10, 12, 0, 2, 10, 11, 0, 1]);
    office.send_inner(&spoofed);
    run.step_zone(&mut office);
    assert_eq!(run.network.counters().sites[0].foreign_sources, 1);
}

#[test]
fn over_the_socket_it_answers_records_and_survives_a_new_qemu() {
    let folder = std::env::temp_dir().join(format!("bulkhead-gateway-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pcap = folder.join("frames.pcap");
    let socket = folder.join("nic");
    let config = Config { pcap: Some(pcap.clone()), ..Config::for_test(socket.clone(), keys().0) };
    let gateway = start(config).unwrap();
    let mark = gateway.mark();
    let query = host_datagram(lan_dns(), &dns::build_query(1, "office.gateway.example", dns::TYPE_A));
    for _ in 0..2 {
        let mut qemu = UnixStream::connect(&socket).unwrap();
        qemu.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        encode(&query, &mut bytes);
        qemu.write_all(&bytes).unwrap();
        let mut decoder = Decoder::default();
        let answer = loop {
            let mut piece = [0; 4096];
            let length = qemu.read(&mut piece).unwrap();
            assert_ne!(length, 0);
            decoder.push(&piece[..length]);
            if let Some(frame) = decoder.next_frame().unwrap() {
                break frame.to_vec();
            }
        };
        assert!(answer.ends_with(&[198, 51, 100, 10]));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let seen = gateway.wait_for(mark, deadline, |frame| frame.direction == Direction::ToHost).unwrap();
    assert!(seen.is_some());
    let frames = gateway.frames(mark).unwrap();
    let directions: Vec<_> = frames.iter().map(|frame| frame.direction).collect();
    assert_eq!(directions, [Direction::FromHost, Direction::ToHost, Direction::FromHost, Direction::ToHost]);
    assert_eq!(frames[0].bytes, query);
    gateway.stop();
    assert!(!socket.exists());
    let written = std::fs::read(&pcap).unwrap().len();
    assert_eq!(written, 24 + frames.iter().map(|frame| 16 + frame.bytes.len()).sum::<usize>());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_full_record_says_so_instead_of_hiding_frames() {
    let recorder = crate::recorder::Recorder::new(1000, None).unwrap();
    let mark = recorder.mark();
    for _ in 0..3 {
        let frame =
            crate::Frame { time: Duration::ZERO, direction: Direction::FromHost, bytes: vec![0; 400] };
        recorder.add(frame);
    }
    assert!(recorder.since(mark).is_err());
    assert_eq!(recorder.since(recorder.mark()).unwrap(), []);
}

#[test]
fn the_demo_keys_load_and_a_missing_one_is_named() {
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/policy/demo");
    Keys::from_folder(&demo).unwrap();
    let folder = std::env::temp_dir().join(format!("bulkhead-keys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let good = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    std::fs::write(folder.join("gateway-keys.toml"), format!("[gateway]\noffice = \"{good}\"\n")).unwrap();
    std::fs::write(folder.join("demo-keys.toml"), format!("[tunnel]\noffice = \"{good}\"\nresearch = 3\n"))
        .unwrap();
    let error = Keys::from_folder(&folder).unwrap_err().to_string();
    assert!(error.contains("demo-keys.toml: tunnel.research: found something else"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
