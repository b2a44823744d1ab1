//! Files that are missing or wrong, and the sentences that come of it.

use std::fs;

use super::*;
use crate::launch::tests::{Data, FIRMWARE, POLICY};

const KEYS: &str = "[tunnel]\noffice = \"+HupjgxflAYEZ9b/xtBVo4OLkxF1qK3A64ksYSPCuVo=\"\n";

/// What is said about a policy and a file of keys; `None`: no such file.
#[track_caller]
fn check(name: &str, policy: Option<&str>, keys: Option<&str>, expected: &[&str]) -> Settings {
    let data = Data::new(&format!("settings-{name}"));
    let paths = Paths {
        policy: data.0.join("policy.toml"),
        demo_keys: data.0.join("demo-keys.toml"),
        template_rules: data.0.join("rules.toml"),
        firmware: data.0.join(FIRMWARE),
        data: data.0.clone(),
    };
    for (path, text) in [(&paths.policy, policy), (&paths.demo_keys, keys)] {
        if let Some(text) = text {
            fs::write(path, text).unwrap();
        }
    }
    let settings = Settings::read(&paths);
    let folder = data.0.to_str().unwrap();
    let problems: Vec<String> =
        settings.problems.iter().map(|problem| problem.replace(folder, "/etc/bulkhead")).collect();
    assert_eq!(problems, expected);
    settings
}

#[test]
fn what_is_right_is_read_in_silence() {
    let settings = check("right", Some(POLICY), Some(KEYS), &[]);
    assert_eq!(settings.policy.unwrap().zones.len(), 2);
    assert_eq!(settings.keys.len(), 1);
    // Without keys the zones without network still start.
    assert!(check("no-keys", Some(POLICY), None, &[]).policy.is_some());
}

#[test]
fn a_policy_that_is_not_there_or_wrong_gives_no_zones() {
    let missing = "There is no policy, so there are no zones: /etc/bulkhead/policy.toml: No such file or directory (os \
                   error 2). Build the image again with one.";
    assert!(check("missing", None, None, &[missing]).policy.is_none());
    let two = POLICY.replacen("vcpus = 1", "vcpus = 9", 1).replacen("\"grey\"", "\"pink\"", 1);
    let error = |finding: &str| {
        format!(
            "The policy has an error, so there are no zones: /etc/bulkhead/policy.toml:{finding}. Correct it and build \
             the image again."
        )
    };
    let vcpus = error("11: zone.office.vcpus: found 9, allowed a whole number from 1 to 8");
    let colour = error(
        "16: zone.vault.colour: found \"pink\", allowed one of red, orange, yellow, green, blue, purple, brown, grey",
    );
    assert!(check("two", Some(&two), None, &[&vcpus, &colour]).policy.is_none());
}

#[test]
fn keys_that_are_wrong_are_told() {
    let real = POLICY.replacen("demo = true", "demo = false", 1);
    let ignored = "/etc/bulkhead/demo-keys.toml is ignored: the policy is no demonstration.";
    assert!(check("real", Some(&real), Some(KEYS), &[ignored]).keys.is_empty());
    // What stands there instead of a key is not repeated: it may be one.
    let wrong = "The tunnels' private keys have an error: /etc/bulkhead/demo-keys.toml:2: tunnel.office: found \
                 something else (not shown), allowed an X25519 private key: 32 bytes in base64, 44 characters. Correct \
                 it and build the image again.";
    assert!(check("wrong", Some(POLICY), Some("[tunnel]\noffice = 5\n"), &[wrong]).keys.is_empty());
}
