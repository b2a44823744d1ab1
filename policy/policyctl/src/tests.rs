use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy");

/// Runs with files named from the `policy` crate's folder; returns code, output and complaints.
fn policyctl(arguments: &[&str]) -> (ExitCode, String, String) {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|word| if word.ends_with(".toml") { format!("{FOLDER}/{word}") } else { (*word).to_owned() })
        .collect();
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let code = run(&arguments, &mut out, &mut complaints).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&format!("{FOLDER}/"), "");
    (code, text(out), text(complaints))
}

#[test]
fn lint_is_silent_about_nothing() {
    let (code, out, complaints) = policyctl(&["lint", "demo/policy.toml"]);
    assert_eq!((code, complaints.as_str()), (ExitCode::SUCCESS, ""));
    assert_eq!(out, "demo/policy.toml: no mistakes; 3 zones, 2 tunnels\n");

    let (code, out, complaints) = policyctl(&["lint", "tests/bad/several.toml"]);
    assert_eq!((code, out.as_str()), (ExitCode::FAILURE, ""));
    assert_eq!(complaints.lines().count(), 4, "{complaints}");
    assert!(complaints.starts_with("tests/bad/several.toml:"), "{complaints}");
}

#[test]
fn show_says_what_the_policy_says() {
    let (code, out, _) = policyctl(&["show", "demo/policy.toml"]);
    assert_eq!(code, ExitCode::SUCCESS);
    for line in [
        "Bulkhead demo, version 1",
        "zone office (\"Office\", green)",
        "  network: tunnel office and nothing else",
        "  user: user",
        "  login: a touch",
        "  network: none, the zone has no NIC",
        "  peer office.gateway.example:51820: 0.0.0.0/0, ::/0, keepalive 25 s",
    ] {
        assert!(out.lines().any(|found| found == line), "{line:?} is missing in {out}");
    }
}

#[test]
fn show_and_explain_say_what_a_pin_guards() {
    let (_, out, _) = policyctl(&["show", "tests/good.toml"]);
    let line =
        "  login: a PIN, locked after 8 wrong ones in a row; the pad's digits change places at each use";
    assert!(out.lines().any(|found| found == line), "{out}");
    let (code, out, _) = policyctl(&["explain", "tests/good.toml", "zone office pin_tries"]);
    let line = "tests/good.toml:14: zone.office.pin_tries = 8\n";
    assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, line));
}

#[test]
fn explain_names_the_line_that_grants_the_network() {
    let (code, out, _) = policyctl(&["explain", "demo/policy.toml", "zone office network"]);
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(
        out,
        "demo/policy.toml:15: zone.office.network = \"tunnel.office\"\n\
         demo/policy.toml:41: tunnel.office.peer[0].endpoint = \"office.gateway.example:51820\"\n\
         demo/policy.toml:42: tunnel.office.peer[0].allowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n"
    );
    let (_, out, _) = policyctl(&["explain", "demo/policy.toml", "zone vault network"]);
    assert_eq!(out, "demo/policy.toml:33: zone.vault.network = \"none\"\n");

    let (code, _, complaints) = policyctl(&["explain", "demo/policy.toml", "zone ofice network"]);
    assert_eq!(code, ExitCode::FAILURE);
    let expected = "found no zone \"ofice\", allowed office, research, vault (did you mean \"office\"?)\n";
    assert_eq!(complaints, expected);
    let (_, _, complaints) = policyctl(&["explain", "demo/policy.toml", "zone office camera"]);
    assert!(complaints.contains("what the file does not grant does not exist"), "{complaints}");
    let (_, _, complaints) = policyctl(&["explain", "demo/policy.toml", "why"]);
    assert!(complaints.contains("allowed \"zone NAME KEY\""), "{complaints}");
}

#[test]
fn wrong_usage_is_explained() {
    let (code, _, complaints) = policyctl(&["frobnicate"]);
    assert_eq!((code, complaints.as_str()), (ExitCode::from(2), USAGE));
    let missing = run(&["lint".to_owned(), "/does/not/exist".to_owned()], &mut Vec::new(), &mut Vec::new());
    assert_eq!(missing.unwrap_err().to_string(), "open /does/not/exist");
}
