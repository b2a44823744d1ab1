//! Replays the committed inputs of every target: each keeps its promises, and none takes much memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longer inputs do not belong into the corpus.
const LONGEST: usize = 8192;

/// More inputs of one target do not belong into it, either.
const MOST: usize = 64;

/// What this process may take, with all targets at once: the largest guests have 4 MiB.
const MEMORY_KIB: u64 = 512 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let files =
        fs::read_dir(corpus().join(target)).unwrap_or_else(|error| panic!("corpus of {target}: {error}"));
    let mut inputs: Vec<PathBuf> = files.map(|file| file.expect("a file of the corpus").path()).collect();
    inputs.sort();
    inputs
}

/// The most memory that this process had so far, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn replay(name: &str) {
    let target = fuzz::find(name).unwrap_or_else(|| panic!("no target {name}"));
    let inputs = inputs(name);
    assert!((1..=MOST).contains(&inputs.len()), "{name} has {} inputs", inputs.len());
    (target.run)(&[]);
    for path in inputs {
        let input = fs::read(&path).expect("a file of the corpus");
        assert!(input.len() < LONGEST, "{} is too long", path.display());
        let outcome = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(outcome.is_ok(), "{} breaks a promise of {name}: {}", path.display(), target.attacks);
        assert!(peak_memory() < MEMORY_KIB, "{} KiB of memory after {}", peak_memory(), path.display());
    }
}

macro_rules! replays {
    ($($test:ident $target:ident)*) => {
        $(#[test]
        fn $test() {
            replay(stringify!($target));
        })*

        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}

replays! {
    replay_agent_link agent_link
    replay_audit_log audit_log
    replay_balloon balloon
    replay_block block
    replay_chains chains
    replay_configs configs
    replay_console console
    replay_console_text console_text
    replay_firmware firmware
    replay_gateway gateway
    replay_ipc ipc
    replay_kernel kernel
    replay_login_record login_record
    replay_net_front net_front
    replay_pci pci
    replay_policy policy
    replay_power power
    replay_pvpanic pvpanic
    replay_rng rng
    replay_tpm_crb tpm_crb
    replay_tunnel_datagrams tunnel_datagrams
    replay_tunnel_frames tunnel_frames
    replay_uplink_answers uplink_answers
    replay_uplink_frames uplink_frames
    replay_varlink varlink
    replay_varlink_reply varlink_reply
    replay_vhost_back vhost_back
    replay_vpnd_rings vpnd_rings
    replay_vsock vsock
    replay_zone_protocol zone_protocol
}

#[test]
fn replay_covers_every_target_and_folder() {
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let replayed: BTreeSet<String> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    let folders: BTreeSet<String> = fs::read_dir(corpus())
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(targets, replayed);
    assert_eq!(targets, folders);
}
