//! What a user is told: bounded notices, and a reason in time for each tunnel that is not up.

use super::*;

#[test]
fn notices_are_bounded_and_numbered() {
    let mut notices = Notices::default();
    for number in 0..40 {
        notices.add("uplink", format!("{number}"));
    }
    let list = notices.list();
    assert_eq!(list.len(), KEPT);
    assert_eq!((list[0].number, list[KEPT - 1].number), (25, 40));
    assert_eq!(list[KEPT - 1].text, "39");
}

fn office() -> Endpoint {
    Endpoint { host: Host::Name("office.gateway.example".into()), port: 51820 }
}

fn facts(endpoints: &[Endpoint]) -> TunnelFacts<'_> {
    let status = Some(VpndStatus::default());
    let waited = TUNNEL_PATIENCE;
    TunnelFacts { phase: Phase::Running, dead: None, status, number: 3, endpoints, waited }
}

/// An uplink that is as it should be, with the place of each endpoint of tunnel 3.
fn online(places: &[Option<&str>]) -> FromUplink {
    let places = places.iter().map(|place| place.map(|place| place.parse().unwrap())).collect();
    FromUplink {
        carrier: true,
        address: Some(("192.168.77.20".parse().unwrap(), 24)),
        tunnels: vec![(3, places)],
    }
}

const HERE: Option<&str> = Some("198.51.100.10:51820");

#[track_caller]
fn check(facts: &TunnelFacts<'_>, state: &FromUplink, expected: Option<&str>) {
    assert_eq!(tunnel(facts, state).reason.as_deref(), expected);
}

#[test]
fn a_tunnel_that_is_not_up_says_why_and_what_to_do() {
    let endpoints = [office()];
    let facts = facts(&endpoints);
    let mut state = FromUplink::default();
    let cable = "The cable or radio is not connected. Connect this machine to a network.";
    check(&facts, &state, Some(cable));
    state.carrier = true;
    let dhcp =
        "This network gives the machine no address: DHCP does not answer. Check the network, or use another.";
    check(&facts, &state, Some(dhcp));
    let name = "The gateway's name office.gateway.example cannot be resolved. Check this network's DNS and the \
                endpoint in the policy.";
    check(&facts, &online(&[None]), Some(name));
    let silent = "The gateway office.gateway.example does not answer. Check that it runs and that UDP \
                  port 51820 gets through.";
    check(&facts, &online(&[HERE]), Some(silent));
    state = online(&[HERE]);
    state.tunnels.clear();
    let forgotten =
        "The host's network service does not carry this tunnel. Stop the zone and start it again.";
    check(&facts, &state, Some(forgotten));
    assert_eq!(uplink(&state).address.as_deref(), Some("192.168.77.20/24"));
}

#[test]
fn the_peer_that_could_answer_is_named() {
    let address = Endpoint { host: Host::Address("2001:db8::1".parse().unwrap()), port: 7 };
    let endpoints = [address, office()];
    let mut facts = facts(&endpoints);
    let text = |facts: &TunnelFacts<'_>, places: &[Option<&str>]| {
        tunnel(facts, &online(places)).reason.unwrap_or_default()
    };
    assert!(text(&facts, &[None, HERE]).starts_with("The gateway office.gateway.example does not answer."));
    let unreachable = text(&facts, &[None, None]);
    assert!(unreachable.starts_with("The gateway 2001:db8::1 cannot be reached from"), "{unreachable}");
    facts.status = Some(VpndStatus { handshake_age_s: Some(400), ..VpndStatus::default() });
    assert!(text(&facts, &[None, HERE]).starts_with("The gateway office.gateway.example no longer answers."));
}

#[test]
fn a_tunnel_is_given_a_moment_to_come_up() {
    let endpoints = [office()];
    let mut facts = facts(&endpoints);
    let broken = FromUplink::default();
    facts.waited = TUNNEL_PATIENCE - Duration::from_millis(1);
    check(&facts, &broken, None);
    facts.waited = TUNNEL_PATIENCE;
    assert!(tunnel(&facts, &broken).reason.is_some());
    facts.phase = Phase::Starting;
    check(&facts, &broken, None);
    // A process that died comes back by itself as little before as after.
    facts.dead = Some("dead");
    check(&facts, &broken, Some("dead"));
}

#[test]
fn a_tunnel_that_is_up_or_off_has_no_reason() {
    let endpoints = [office()];
    let mut facts = facts(&endpoints);
    facts.status = Some(VpndStatus { up: true, ..VpndStatus::default() });
    check(&facts, &online(&[HERE]), None);
    facts.dead = Some("dead");
    check(&facts, &online(&[HERE]), Some("dead"));
    assert!(!tunnel(&facts, &online(&[HERE])).up);
    facts.phase = Phase::Stopped;
    check(&facts, &online(&[HERE]), None);
}
