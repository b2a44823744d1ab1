use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::*;

mod bad;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(folder().join(file)).unwrap()
}

#[test]
fn each_bad_file_draws_exactly_its_findings() {
    for (name, expected) in bad::BAD {
        let file = format!("{name}.toml");
        let findings = check(&file, &read(&format!("tests/bad/{file}"))).unwrap_err();
        let expected: Vec<String> = expected.iter().map(|line| format!("{file}:{line}")).collect();
        assert_eq!(findings.to_string(), expected.join("\n"));
    }
}

#[test]
fn every_bad_file_is_in_the_table() {
    let files = std::fs::read_dir(folder().join("tests/bad")).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap().replace(".toml", "")).collect();
    let table: BTreeSet<String> = bad::BAD.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, table);
}

#[test]
fn a_good_file_is_read_as_written() {
    let policy = check("good.toml", &read("tests/good.toml")).unwrap();
    assert_eq!(policy.screen, Login::Pin { tries: 4, shuffle: false });
    assert_eq!((policy.version, policy.name.as_str(), policy.demo), (1, "Example", false));
    let names: Vec<&str> = policy.zones.iter().map(|zone| zone.name.as_str()).collect();
    assert_eq!(names, ["office", "vault"]);
    let office = &policy.zones[0];
    assert_eq!(office.label, "office");
    assert_eq!(
        (office.colour, office.memory_mib, office.vcpus, office.disk_mib),
        (Colour::Green, 256, 1, 64)
    );
    assert_eq!(office.network, Network::Tunnel("office".to_owned()));
    assert_eq!(office.keep, ["/var/lib/app", "/srv/a.b_c+d@e-f"]);
    assert!(policy.zones[1].keep.is_empty());
    assert_eq!((office.user.as_str(), policy.zones[1].user.as_str()), ("anna-2", "user"));
    assert_eq!(policy.zones[1].network, Network::None);
    let tunnel = &policy.tunnels[0];
    assert_eq!((tunnel.mtu, tunnel.addresses[0].to_string().as_str()), (1420, "10.11.0.2/32"));
    let endpoints: Vec<String> = tunnel.peers.iter().map(|peer| peer.endpoint.to_string()).collect();
    assert_eq!(endpoints, ["office.gateway.example:51820", "[2001:db8::1]:51820"]);
    assert_eq!(tunnel.peers[1].allowed_ips[0].to_string(), "10.11.0.0/24");
    assert_eq!(tunnel.peers[0].keepalive, None);
}

#[test]
fn a_zone_asks_for_a_pin_where_the_file_says_so_and_nowhere_else() {
    let check = |lines: &str, expected: Login| {
        let written = "login = \"pin\"\npin_tries = 8\npin_shuffle = true\n";
        let text = read("tests/good.toml").replace("keep = [\"/var/lib/app\", \"/srv/a.b_c+d@e-f\"]\n", "");
        let text = text.replacen(written, lines, 1);
        let zones = check("f", &text).unwrap().zones;
        assert_eq!((zones[0].login, zones[1].login), (expected, Login::Touch), "{lines}");
    };
    let pin = |tries, shuffle| Login::Pin { tries, shuffle };
    check("login = \"pin\"\npin_tries = 8\npin_shuffle = true\n", pin(8, true));
    check("", Login::Touch);
    check("login = \"touch\"\ndisposable = true\n", Login::Touch);
    check("login = \"pin\"\n", pin(5, false));
    check("login = \"pin\"\npin_tries = 3\npin_shuffle = true\n", pin(3, true));
    check("pin_tries = 16\npin_shuffle = false\nlogin = \"pin\"\ndisposable = false\n", pin(16, false));
}

#[test]
fn a_policy_of_another_spelling_is_the_same_policy() {
    let plain = read("tests/good.toml");
    let inline = plain
        .replace("[tunnel.office]", "[tunnel]")
        .replace("address = ", "office.address = ")
        .replace("dns = ", "office.dns = ")
        .split("\n[[")
        .next()
        .unwrap()
        .to_owned();
    let peer = |key: &str, endpoint: &str, networks: &str| {
        format!("{{ public_key = \"{key}\", endpoint = \"{endpoint}\", allowed_ips = [\"{networks}\"] }}")
    };
    let first =
        peer("0Cea+6eciiXuOuQC9WoaIWyNBkor9vcv0ZC9sm4NsTs=", "office.gateway.example:51820", "0.0.0.0/0");
    let second = peer("pWGVhnu9fE4c3Iq8AZyP8bYKa4scy2cva7uOjIkzHgw=", "[2001:db8::1]:51820", "10.11.0.0/24");
    let screen = "screen = { pin_tries = 4, login = \"pin\" }";
    let inline = format!("{screen}\n{inline}office.peer = [\n  {first},\n  {second},\n]\n");
    assert_eq!(check("a", &inline).unwrap(), check("b", &plain).unwrap());
}

#[test]
fn the_demo_is_good_and_its_keys_fit() {
    let policy = verify("policy.toml", &read("demo/policy.toml")).unwrap();
    assert!(policy.demo);
    let facts: Vec<_> =
        policy.zones.iter().map(|zone| (zone.name.as_str(), zone.colour, &zone.network)).collect();
    let tunnel = |name: &str| Network::Tunnel(name.to_owned());
    assert_eq!(
        facts,
        [
            ("office", Colour::Green, &tunnel("office")),
            ("research", Colour::Blue, &tunnel("research")),
            ("vault", Colour::Grey, &Network::None),
        ]
    );
    let zones = demo_keys("demo-keys.toml", &read("demo/demo-keys.toml")).unwrap();
    let gateways = demo_gateway_keys("gateway-keys.toml", &read("demo/gateway-keys.toml")).unwrap();
    for tunnel in &policy.tunnels {
        assert!(zones.contains_key(&tunnel.name) && gateways.contains_key(&tunnel.name));
    }
    assert_eq!((zones.len(), gateways.len()), (policy.tunnels.len(), policy.tunnels.len()));
}

#[test]
fn findings_about_keys_never_show_them() {
    let key = "+HupjgxflAYEZ9b/xtBVo4OLkxF1qK3A64ksYSPCuV";
    let text = format!("[tunnel]\noffice = \"{key}\"\nresearch = 3\n[other]\nkey = \"{key}\"\n");
    let findings = demo_keys("k", &text).unwrap_err().to_string();
    let wanted =
        "found something else (not shown), allowed an X25519 private key: 32 bytes in base64, 44 characters";
    let lines: Vec<&str> = findings.lines().collect();
    assert_eq!(
        lines,
        [
            format!("k:2: tunnel.office: {wanted}"),
            format!("k:3: tunnel.research: {wanted}"),
            "k:4: other: found an unknown key, allowed the keys tunnel".to_owned(),
        ]
    );
    let private = read("tests/bad/private_key.toml").replace("secret", key);
    assert!(!check("f", &private).unwrap_err().to_string().contains(key));
    let broken = format!("[tunnel]\noffice = \"{key}\nresearch = \"{key}\"\n");
    assert!(!demo_keys("k", &broken).unwrap_err().to_string().contains(key));
}

#[test]
fn a_text_that_is_too_long_is_not_parsed() {
    let text = format!("{}\n# {}", read("tests/good.toml"), "x".repeat(MAX_TEXT));
    let findings = check("f", &text).unwrap_err().to_string();
    assert!(findings.starts_with("f:1: found 26") && findings.ends_with("allowed at most 262144 bytes"));
}

#[test]
fn the_worst_texts_of_full_length_are_answered_too() {
    let fill = |piece: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for number in 0.. {
            let piece = piece(number);
            if text.len() + piece.len() > MAX_TEXT {
                return text;
            }
            text.push_str(&piece);
        }
        text
    };
    let long = "k".repeat(MAX_TEXT / 2);
    for text in [
        fill(&|_| "[".to_owned()),
        fill(&|number| format!("k{number} = 1\n")),
        fill(&|number| format!("[zone.k{number}]\n")),
        fill(&|number| if number == 0 { format!("[{long}]\n") } else { format!("k{number} = {{}}\n") }),
        fill(&|number| if number == 0 { "a = [".to_owned() } else { "{private_key=1},".to_owned() }) + "]",
        fill(&|_| "a.".to_owned()),
    ] {
        answered(&text[..text.len().min(MAX_TEXT)]);
    }
}

#[test]
fn sizes_and_addresses_at_their_edges() {
    let with = |from: &str, to: &str| {
        let text = read("tests/good.toml");
        assert!(text.contains(from));
        check("f", &text.replacen(from, to, 1)).is_ok()
    };
    assert!(with("memory = \"256 MiB\"", "memory = \"64 GiB\""));
    assert!(!with("memory = \"256 MiB\"", "memory = \"65537 MiB\""));
    assert!(!with("memory = \"256 MiB\"", "memory = \"+256 MiB\""));
    assert!(!with("memory = \"256 MiB\"", "memory = \"4194305 GiB\""));
    assert!(!with("memory = \"256 MiB\"", "memory = \"9999999999 MiB\""));
    assert!(with("disk = \"64 MiB\"", "disk = \"16 MiB\""));
    assert!(with("\"0.0.0.0/0\"", "\"::/0\", \"0.0.0.0/0\", \"10.0.0.1/32\", \"fd00::1/128\""));
    assert!(!with("\"0.0.0.0/0\"", "\"10.0.0.0/033333333333\""));
    assert!(!with("\"10.11.0.2/32\"", "\"127.0.0.1/8\""));
    assert!(with("office.gateway.example:51820", "198.51.100.10:1"));
    assert!(!with("office.gateway.example:51820", "224.0.0.1:51820"));
    assert!(!with("office.gateway.example:51820", "office.gateway.example.:51820"));
    assert!(!with("office.gateway.example:51820", "2001:db8::1:51820"));
    assert!(!with("[zone.vault]", &format!("[zone.{}]", "v".repeat(33))));
    assert!(with("[zone.vault]", &format!("[zone.{}]", "v".repeat(32))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// No text makes it panic, and every finding points into the file.
    #[test]
    fn property_any_text_is_answered(text in ".{0,300}") {
        answered(&text);
    }

    /// The same for texts that are almost good: pieces of a good one cut out, doubled or replaced.
    #[test]
    fn property_any_bent_policy_is_answered(
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..40_usize, prop::sample::select(PIECES)), 1..6)
    ) {
        let mut text: Vec<char> = read("demo/policy.toml").chars().collect();
        for (at, length, piece) in changes {
            let at = at.index(text.len());
            let end = at.saturating_add(length).min(text.len());
            text.splice(at..end, piece.chars());
            if text.is_empty() {
                break;
            }
        }
        answered(&text.into_iter().collect::<String>());
    }
}

#[rustfmt::skip]
const PIECES: &[&str] = &[
    "", "\n", "=", "\"", "[", "]", "[[", "{", "}", ".", "1", "-9223372036854775808", "\"tunnel.\"", "é", "\0", "\"/\"",
    "[zone.a]\n", "[[tunnel.office.peer]]\n", "private_key = 1\n", "1979-05-27", "[[[[[[[[[[", "\"18446744073709551616 GiB\"",
    "a.b.c.d = 1\n", "zone = 3\n", "peer = [1, {}, []]\n", "\"::ffff:1.2.3.4/96\"", "\"[::1]:1\"", "inf", "'''",
];

fn answered(text: &str) {
    let lines = text.matches('\n').count().saturating_add(1);
    match check("f", text) {
        Ok(policy) => assert!(!policy.zones.is_empty()),
        Err(findings) => {
            assert!(findings.iter().count() > 0);
            for finding in &findings {
                assert!((1..=lines).contains(&finding.line), "{finding}");
            }
        }
    }
    drop(demo_keys("f", text));
    drop(explain("f", text, "zone office network"));
}
