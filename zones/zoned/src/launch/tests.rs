//! A start's descriptors, in a folder of its own.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use policy::{Policy, VerifiedPolicy};
use serde::Deserialize;

use super::*;
use crate::template;

/// The firmware's file in a data folder.
pub(crate) const FIRMWARE: &str = "zone_fw";

/// A data folder with a whole template, removed at the end.
pub(crate) struct Data(pub(crate) PathBuf);

impl Data {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("zoned-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        template::tests::install(&folder, 2, 5, &template::tests::key());
        template::tests::templates(&folder);
        fs::write(folder.join(FIRMWARE), b"firmware").unwrap();
        Self(folder)
    }

    /// Makes everything for a start of one of the policy's zones.
    fn prepare(&self, plan: &Plan<'_>) -> Result<Prepared, LaunchError> {
        let paths = Paths { data: self.0.clone(), firmware: self.0.join(FIRMWARE), ..Paths::default() };
        prepare(&mut template::tests::templates(&self.0), &paths, plan)
    }

    pub(crate) fn template(&self, file: &str) -> PathBuf {
        self.0.join("templates/micro").join(file)
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Memory is small here, so that the tests run on a small machine.
pub(crate) const POLICY: &str = r#"
schema = 1
version = 1
name = "Test"
demo = true

[zone.office]
colour = "green"
template = "micro"
memory = "64 MiB"
vcpus = 1
disk = "16 MiB"
network = "tunnel.office"

[zone.vault]
colour = "grey"
template = "micro"
memory = "64 MiB"
vcpus = 2
disk = "16 MiB"
network = "none"

[tunnel.office]
address = ["10.11.0.2/32"]
dns = ["10.11.0.1"]

[[tunnel.office.peer]]
public_key = "0Cea+6eciiXuOuQC9WoaIWyNBkor9vcv0ZC9sm4NsTs="
endpoint = "office.gateway.example:51820"
allowed_ips = ["0.0.0.0/0"]
keepalive = 25
"#;

fn policy() -> VerifiedPolicy {
    policy::verify("policy.toml", POLICY).unwrap()
}

fn plan(policy: &Policy, zone: usize) -> Plan<'_> {
    let slot = u8::try_from(zone).unwrap();
    let tunnel = tunnel_of(policy, &policy.zones[zone], |_| Some(TunnelKey::Demo([7; 32]))).unwrap();
    Plan {
        zone: &policy.zones[zone],
        slot,
        tunnel,
        memory_taken_mib: 0,
        memory_available_mib: 256,
        disposable: None,
    }
}

fn names(descriptors: &Descriptors) -> Vec<&str> {
    descriptors.iter().map(|(name, _)| name.as_str()).collect()
}

fn find<'a>(descriptors: &'a Descriptors, name: &str) -> &'a OwnedFd {
    &descriptors.iter().find(|(candidate, _)| candidate == name).unwrap().1
}

fn read<T: for<'a> Deserialize<'a>>(descriptor: &OwnedFd) -> T {
    let mut bytes = vec![0; 64 * 1024];
    let count = rustix::io::pread(descriptor, &mut bytes, 0).unwrap();
    postcard::from_bytes(&bytes[..count]).unwrap()
}

#[test]
fn a_zone_with_a_tunnel_gets_everything() {
    let data = Data::new("tunnel");
    let policy = policy();
    let prepared = data.prepare(&plan(&policy, 0)).unwrap();
    let expected = ["config", "events", "agent", "console", "firmware", "kernel", "initrd", "disk0", "net"];
    assert_eq!(names(&prepared.vmm), expected);
    let vpnd = prepared.vpnd.as_ref().unwrap();
    assert_eq!(names(vpnd), ["config", "vhost", "uplink", "status"]);
    let config: Config = read(find(&prepared.vmm, "config"));
    assert!(config.command_line.starts_with("console=hvc0 bulkhead.root=2,"), "{}", config.command_line);
    assert_eq!((config.memory_mib, config.vcpus), (64, 1));
    // Its TPM brings the record of each start, and what opens the disk.
    assert!(config.record.is_none() && config.disks[1].late && !config.disks[0].late);
    assert_eq!(rustix::fs::fstat(prepared.private.as_ref().unwrap()).unwrap().st_size, 16 << 20);
    let signed = ::template::Manifest::decode(&prepared.start.manifest).unwrap();
    assert_eq!(signed.command_line(), config.command_line);
    assert!(config.disks[0].read_only && !config.disks[1].read_only);
    let tunnel: VpndConfig = read(find(vpnd, "config"));
    assert_eq!(tunnel.private_key, Some([7; 32]));
    assert_eq!(Some(tunnel.zone_mac), config.network);
    assert_eq!(tunnel.addresses, [("10.11.0.2".parse().unwrap(), 32)]);
    let ends = prepared.ends.tunnel.as_ref().unwrap();
    assert_eq!(ends.endpoints[0].host, Host::Name("office.gateway.example".into()));
}

#[test]
fn the_pairs_join_the_right_processes() {
    let data = Data::new("pairs");
    let policy = policy();
    let prepared = data.prepare(&plan(&policy, 0)).unwrap();
    let vpnd = prepared.vpnd.as_ref().unwrap();
    let joined = |from: &OwnedFd, to: std::os::fd::BorrowedFd<'_>| {
        rustix::io::write(from, b"x").unwrap();
        let mut bytes = [0; 8];
        assert_eq!(rustix::io::read(to, &mut bytes).unwrap(), 1);
    };
    joined(find(&prepared.vmm, "net"), find(vpnd, "vhost").as_fd());
    joined(find(vpnd, "uplink"), prepared.ends.tunnel.as_ref().unwrap().datagrams.as_fd());
    joined(find(vpnd, "status"), prepared.ends.tunnel.as_ref().unwrap().status.as_fd());
    joined(find(&prepared.vmm, "events"), prepared.ends.events.as_fd());
    joined(find(&prepared.vmm, "agent"), prepared.ends.agent.as_fd());
    joined(find(&prepared.vmm, "console"), prepared.ends.console.as_fd());
}

#[test]
fn a_zone_without_network_has_no_nic() {
    let data = Data::new("no-nic");
    let policy = policy();
    let prepared = data.prepare(&plan(&policy, 1)).unwrap();
    assert!(prepared.vpnd.is_none() && prepared.ends.tunnel.is_none());
    assert!(!names(&prepared.vmm).contains(&"net"));
    let config: Config = read(find(&prepared.vmm, "config"));
    assert_eq!((config.network, config.vcpus), (None, 2));
}

#[test]
fn nothing_is_given_that_a_process_could_change() {
    let data = Data::new("sealed");
    let policy = policy();
    let prepared = data.prepare(&plan(&policy, 0)).unwrap();
    for (descriptors, name) in [(&prepared.vmm, "config"), (prepared.vpnd.as_ref().unwrap(), "config")] {
        let config = find(descriptors, name);
        assert_eq!(rustix::io::pwrite(config, b"x", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(config, 0), Err(Errno::PERM));
    }
    for name in ["kernel", "initrd", "disk0"] {
        assert_eq!(rustix::io::pwrite(find(&prepared.vmm, name), b"x", 0), Err(Errno::BADF));
    }
}

#[test]
fn a_private_disk_is_made_kept_and_grown() {
    const MIB: u64 = 1024 * 1024;
    let data = Data::new("disk");
    let mut policy = Policy::clone(&policy());
    let path = data.0.join("zones/vault/private.img");
    let start = |policy: &Policy| data.prepare(&plan(policy, 1)).unwrap().remark;
    assert_eq!(start(&policy), None);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (16 * MIB, 0o600));
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    rustix::io::pwrite(&file, b"mine", 4096).unwrap();
    policy.zones[1].disk_mib = 32;
    assert_eq!(start(&policy), None);
    assert_eq!(fs::metadata(&path).unwrap().len(), 32 * MIB);
    policy.zones[1].disk_mib = 16;
    let expected = "its private disk has 32 MiB, the policy gives 16 MiB. A disk is never made smaller: the zone starts \
                    with all of it. Set the size in the policy to 32 MiB, or give the zone a new disk.";
    assert_eq!(start(&policy).as_deref(), Some(expected));
    assert_eq!(fs::metadata(&path).unwrap().len(), 32 * MIB);
    let mut bytes = [0; 4];
    rustix::io::pread(File::open(&path).unwrap(), &mut bytes, 4096).unwrap();
    assert_eq!(&bytes, b"mine");
}

#[test]
fn a_private_disk_that_cannot_be_made_leaves_nothing() {
    let data = Data::new("half-disk");
    let zones = data.0.join("zones");
    // No file is that long.
    let make = |mib| stored_disk::make_or_open(&zones, "vault", mib).map(drop);
    assert_eq!(make(u64::MAX), Err(Errno::INVAL));
    assert!(!zones.exists(), "something was left");
    assert_eq!(make(16), Ok(()));
    assert_eq!(make(u64::MAX), Err(Errno::INVAL));
    assert_eq!(fs::metadata(zones.join("vault/private.img")).unwrap().len(), 16 << 20);
}

#[test]
fn what_a_zone_is_stands_in_its_record_and_not_on_its_command_line() {
    let data = Data::new("keep");
    let mut policy = Policy::clone(&policy());
    let prepare = |policy: &Policy| {
        let prepared = data.prepare(&plan(policy, 1)).unwrap();
        (prepared.start, read::<Config>(find(&prepared.vmm, "config")).command_line)
    };
    let (start, without) = prepare(&policy);
    assert_eq!((start.user.as_str(), start.keep.len()), ("user", 0));
    policy.zones[1].keep = ["/var/lib/app", "/srv"].map(str::to_owned).to_vec();
    policy.zones[1].user = "anna".to_owned();
    let (start, with) = prepare(&policy);
    assert_eq!((start.user.as_str(), start.keep), ("anna", policy.zones[1].keep.clone()));
    assert_eq!(with, without);
}

#[test]
fn what_is_missing_is_named() {
    let check = |name: &str, spoil: &dyn Fn(&Data, &mut Policy), expected: &str| {
        let data = Data::new(name);
        let mut policy = Policy::clone(&policy());
        spoil(&data, &mut policy);
        let error = data.prepare(&plan(&policy, 1)).unwrap_err().to_string();
        assert_eq!(error.replace(data.0.to_str().unwrap(), "/data"), expected);
    };
    check(
        "no-root",
        &|data, _| fs::remove_file(data.template("root.img")).unwrap(),
        "template \"micro\" is not installed: /data/templates/micro/root.img is missing; run `./bulkhead run` to build it",
    );
    check(
        "small",
        &|_, policy| policy.zones[1].memory_mib = 63,
        "template \"micro\" needs 64 MiB of memory, the policy gives 63 MiB; raise the zone's memory in the \
         policy",
    );
    check(
        "file-in-place",
        &|data, _| {
            fs::create_dir(data.0.join("zones")).unwrap();
            fs::write(data.0.join("zones/vault"), "").unwrap();
        },
        "/data/zones/vault/private.img: Not a directory (os error 20); check the data disk",
    );
}

#[test]
fn a_zone_starts_once_its_template_came() {
    let data = Data::new("late-template");
    let policy = policy();
    let away = data.0.join("away");
    fs::rename(data.0.join("templates/micro"), &away).unwrap();
    assert!(matches!(data.prepare(&plan(&policy, 1)), Err(LaunchError::Template(_))));
    assert!(!data.0.join("zones/vault").exists(), "something was left");
    fs::rename(&away, data.0.join("templates/micro")).unwrap();
    data.prepare(&plan(&policy, 1)).unwrap();
}

#[test]
fn too_little_memory_says_how_to_get_more() {
    let data = Data::new("huge");
    let mut policy = Policy::clone(&policy());
    policy.zones[1].memory_mib = u32::MAX;
    let check = |memory_taken_mib: u64, advice: &str| {
        let plan = Plan { memory_taken_mib, ..plan(&policy, 1) };
        let error = data.prepare(&plan).unwrap_err();
        assert!(matches!(error, LaunchError::Memory { needed, .. } if needed == u64::from(u32::MAX) + 32));
        let text = error.to_string();
        let begin = format!(
            "not enough memory: the zone takes 4294967327 MiB, running zones take {memory_taken_mib} MiB, the host \
             itself 192 MiB, and there are "
        );
        assert!(text.starts_with(&begin) && text.ends_with(advice), "{text}");
    };
    check(256, " MiB; stop another zone first");
    check(0, " MiB; lower the zone's memory in the policy");
}

#[test]
fn a_full_disk_is_told_apart() {
    let path = PathBuf::from("/data/zones/office/private.img");
    let error = stored_disk::failed(&path, Errno::NOSPC).to_string();
    let expected = "the data disk is full (/data/zones/office/private.img); remove files that no zone needs or use \
                    a larger disk";
    assert_eq!(error, expected);
}

#[test]
fn a_tunnel_without_key_does_not_start() {
    let policy = policy();
    let error = tunnel_of(&policy, &policy.zones[0], |_| None).unwrap_err();
    let expected = "tunnel \"office\" has no private key on this host; stop the zone and open it again";
    assert_eq!(error.to_string(), expected);
    assert!(tunnel_of(&policy, &policy.zones[1], |_| None).unwrap().is_none());
}
