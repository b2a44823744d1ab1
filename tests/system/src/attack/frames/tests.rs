use gateway::observer::{Observer, Reason};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetFrame, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscRepr};

use super::*;

const HOST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x77, 0, 0x14];

fn attacker() -> Attacker {
    Attacker {
        mac: [0x02, b'b', b'h', 0, 0, 0],
        address: Ipv4Addr::new(10, 11, 0, 2),
        gateway_mac: [0x02, 0, 0, 0, 0, 1],
        host_mac: HOST_MAC,
        victims: vec![([0x02, b'b', b'h', 0, 0, 1], Ipv4Addr::new(10, 12, 0, 2))],
        marker: "LEAKMARKER".to_owned(),
    }
}

#[test]
fn every_frame_is_a_leak_if_it_gets_out() {
    let marked = Observer { host_mac: HOST_MAC, markers: vec!["LEAKMARKER".to_owned()] };
    let frames = attacker().frames();
    assert!(frames.len() > 80, "{}", frames.len());
    let mut harmless = Vec::new();
    for frame in &frames {
        assert!((60..=1514).contains(&frame.len()) || frame.len() >= 42, "the kernel takes it");
        if marked.judge(frame).is_ok() {
            harmless.push(frame.clone());
        }
    }
    // ARP has no room for a marker: with the host's own addresses stolen, it is what the host itself may say.
    assert!(harmless.iter().all(|frame| frame[12..14] == [8, 6]), "{harmless:x?}");
    assert!(harmless.len() <= 4, "{}", harmless.len());
}

#[test]
fn most_are_found_by_what_they_are_and_not_only_by_the_marker() {
    let unmarked = Observer::new(HOST_MAC);
    let found = attacker().frames().iter().filter(|frame| unmarked.judge(frame).is_err()).count();
    assert!(found + 8 > attacker().frames().len(), "{found}");
    let planted = planted_leak(HOST_MAC, "x");
    assert_eq!(unmarked.judge(&planted), Err(Reason::EtherType(ETHERTYPE_EXPERIMENT)));
}

#[test]
fn the_router_advertisement_is_a_valid_one() {
    let frame = attacker().router_advertisements().remove(0);
    let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
    let packet = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    let parsed =
        Icmpv6Repr::parse(&packet.src_addr(), &packet.dst_addr(), &message, &ChecksumCapabilities::default());
    assert!(matches!(parsed, Ok(Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert { .. }))), "{parsed:?}");
}
