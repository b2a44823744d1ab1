//! The shell against TPMs that these tests play, and against the real one where the build's tools have it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::keys::{StateKey, UnkeptKeys};

const MEASURED: Measured =
    Measured { kernel: [4; 32], command_line: [8; 32], initrd: [9; 32], record: Some([11; 32]) };

/// What zones begin with here.
const FIRMWARE: &[u8] = &[0xF0; 9000];

/// Keys that tests know.
struct KnownKeys;

impl StateKeys for KnownKeys {
    fn key(&mut self, zone: &str) -> std::io::Result<StateKey> {
        if zone == "keyless" { Err(std::io::ErrorKind::NotFound.into()) } else { Ok([0x6B; 32]) }
    }
}

struct Bench {
    tpms: Tpms,
    init: Channel,
    zoned: Channel,
}

impl Bench {
    fn new() -> Self {
        let (init, theirs) = Channel::pair().unwrap();
        let (zoned, of_keeper) = Channel::pair().unwrap();
        zoned.set_nonblocking().unwrap();
        Self {
            tpms: Tpms::new(theirs, of_keeper, Box::new(KnownKeys), FIRMWARE.to_vec()).unwrap(),
            init,
            zoned,
        }
    }

    fn settle(&mut self) {
        for _ in 0..8 {
            self.tpms.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    /// As `init` tells of a TPM; its control channel, and the pipe with its key.
    fn started(&mut self, slot: u8, zone: &str) -> (UnixStream, OwnedFd) {
        let (control, of_keeper) = UnixStream::pair().unwrap();
        let (key, into_key) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let started = FromInit::TpmStarted { slot, zone: zone.to_owned() };
        self.init.send(&started, &[of_keeper.as_fd(), into_key.as_fd()]).unwrap();
        control.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        drop(into_key);
        self.settle();
        (control, key)
    }

    fn begin(&mut self, slot: u8, number: u32) {
        self.zoned.send(&ToKeeper::Begin { slot, number, measured: MEASURED }, &[]).unwrap();
        self.settle();
    }

    fn answer(&self) -> Option<(FromKeeper, Vec<OwnedFd>)> {
        self.zoned.receive().ok()
    }

    /// Waits for it: another test's child may hold a socket open until it runs its program.
    fn next_answer(&mut self) -> (FromKeeper, Vec<OwnedFd>) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.tpms.turn(Some(Duration::from_millis(100))).unwrap();
            if let Some(answer) = self.answer() {
                return answer;
            }
            assert!(Instant::now() < deadline, "no answer");
        }
    }

    fn failed(&self) -> Option<(u8, u32, String)> {
        match self.answer() {
            Some((FromKeeper::Failed { slot, number, reason }, _)) => Some((slot, number, reason)),
            Some((FromKeeper::Ready { .. }, _)) | None => None,
        }
    }
}

fn is_gone(slot: u8, number: u32) -> FromKeeper {
    FromKeeper::Failed { slot, number, reason: "is gone".to_owned() }
}

fn is(slot: u8, number: u32, reason: &str) -> Option<(u8, u32, String)> {
    Some((slot, number, reason.to_owned()))
}

#[test]
fn a_tpm_gets_its_key_and_the_first_question() {
    let mut bench = Bench::new();
    let (mut control, key) = bench.started(3, "office");
    let mut bytes = [0; 64];
    assert_eq!(rustix::io::read(&key, &mut bytes), Ok(32));
    assert_eq!(bytes[..32], [0x6B; 32]);
    // And nobody can write another one.
    assert_eq!(rustix::io::read(&key, &mut bytes), Ok(0));
    bench.begin(3, 7);
    let mut question = [0; 4];
    control.read_exact(&mut question).unwrap();
    assert_eq!(question, [0, 0, 0, 1]);
    control.write_all(&[0; 8]).unwrap();
    bench.settle();
    assert_eq!(bench.failed(), is(3, 7, "cannot do what is needed of it (capabilities 0x0)"));
}

#[test]
fn what_goes_wrong_is_said_once_and_to_whom_it_concerns() {
    let mut bench = Bench::new();
    bench.begin(0, 1);
    assert_eq!(bench.failed(), is(0, 1, "is not there"));
    let (_control, key) = bench.started(0, "keyless");
    assert_eq!(rustix::io::read(&key, &mut [0; 64]), Ok(0));
    bench.begin(0, 2);
    assert_eq!(bench.failed(), is(0, 2, "is not there"));
    let (first, _key) = bench.started(0, "office");
    let (_other, _key) = bench.started(1, "vault");
    bench.begin(0, 3);
    bench.begin(1, 4);
    // The same again, as the next zoned asks for it: one answer, to the one who asked last.
    bench.begin(0, 5);
    assert!(bench.answer().is_none());
    drop(first);
    assert_eq!(bench.next_answer().0, is_gone(0, 5));
    assert!(bench.answer().is_none());
    let (_again, _key) = bench.started(1, "vault");
    assert_eq!(bench.failed(), is(1, 4, "was started again"));
    // Speaking without being asked is noticed and changes nothing.
    let (mut control, _key) = bench.started(2, "research");
    control.write_all(&[1, 2, 3]).unwrap();
    bench.settle();
    assert!(bench.answer().is_none());
}

#[test]
fn a_keeper_that_was_started_again_takes_a_living_tpm_over() {
    let mut bench = Bench::new();
    let (mut control, of_keeper) = UnixStream::pair().unwrap();
    let lives = FromInit::TpmLives { slot: 5, zone: "office".to_owned() };
    bench.init.send(&lives, &[of_keeper.as_fd()]).unwrap();
    bench.settle();
    bench.begin(5, 9);
    control.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut question = [0; 4];
    control.read_exact(&mut question).unwrap();
    assert_eq!(question, [0, 0, 0, 1]);
    assert!(bench.answer().is_none());
}

#[test]
fn keys_differ() {
    let mut keys = UnkeptKeys;
    assert_ne!(keys.key("office").unwrap(), keys.key("office").unwrap());
}

/// A process that does not outlive its test.
struct Swtpm(Child);

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The build's own swtpm on a folder, as `init` starts it, but without a jail.
fn swtpm(folder: &Path, control: UnixStream, key: OwnedFd) -> Option<Swtpm> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/tools/usr");
    if !tools.join("bin/swtpm").exists() {
        return None;
    }
    let libraries = tools.join("lib/x86_64-linux-gnu");
    let mut path = libraries.clone().into_os_string();
    path.push(":");
    path.push(libraries.join("swtpm"));
    // It takes them from its input and its output, which every program has.
    let child = Command::new(tools.join("lib64/ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(path)
        .arg(tools.join("bin/swtpm"))
        .args(["socket", "--tpm2", "--tpmstate"])
        .arg(format!("dir={}", folder.display()))
        .args(["--ctrl", "type=unixio,clientfd=1", "--key"])
        .args(["fd=0,format=binary,mode=aes-256-cbc,remove=false", "--seccomp", "action=none"])
        .stdin(Stdio::from(key))
        .stdout(Stdio::from(OwnedFd::from(control)))
        .spawn();
    Some(Swtpm(child.unwrap()))
}

/// A TPM command and its response.
fn transact(data: &OwnedFd, command: &[u8]) -> Vec<u8> {
    rustix::io::ioctl_fionbio(data, false).unwrap();
    rustix::io::write(data, command).unwrap();
    let mut response = vec![0; 4096];
    let count = rustix::io::read(data, &mut response).unwrap();
    response.truncate(count);
    response
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = template::Summer::default();
    sum.add(bytes);
    sum.finish().sha256
}

fn extended(register: [u8; 32], digest: [u8; 32]) -> [u8; 32] {
    sha256(&[register, digest].concat())
}

/// The SHA-256 bank's register.
fn register(data: &OwnedFd, number: u8) -> Vec<u8> {
    let mut selected = [0; 3];
    selected[usize::from(number / 8)] = 1 << (number % 8);
    let read = [&[0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3][..], &selected].concat();
    let response = transact(data, &read);
    response[response.len() - 32..].to_vec()
}

#[test]
fn the_real_one_begins_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    let (control, key) = bench.started(0, "office");
    let Some(child) = swtpm(folder.path(), control, key) else {
        println!("skipped: the build's tools have no swtpm yet");
        return;
    };
    // A register that was begun from locality 4 says so.
    let mut locality = [0; 32];
    locality[31] = 4;
    let measured = |digest| extended([0; 32], digest);
    let expected = [
        extended(locality, sha256(FIRMWARE)),
        measured(MEASURED.kernel),
        measured(MEASURED.command_line),
        measured(MEASURED.initrd),
        [0; 32],
    ];
    for number in 1..=3 {
        bench.begin(0, number);
        let (answer, mut descriptors) = bench.next_answer();
        assert_eq!(answer, FromKeeper::Ready { slot: 0, number });
        let data = descriptors.remove(0);
        let registers = [0, 4, 8, 9, 11].map(|number| register(&data, number));
        assert_eq!(registers, expected);
        // The record: TPM2_NV_Read with the index's own, empty, authorization.
        let index = [0x01, 0x40, 0, 1];
        let session = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let read =
            [&[0x80, 2, 0, 0, 0, 35, 0, 0, 1, 0x4E][..], &index, &index, &session, &[0, 32, 0, 0]].concat();
        let response = transact(&data, &read);
        assert_eq!(response.get(16..48), Some(&[11; 32][..]), "{response:x?}");
        // A guest measures, and is reset: nothing of it is left.
        let digests = [&[0, 0, 0, 1, 0, 0x0B][..], &[1; 32]].concat();
        let extend = [&[0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 11][..], &session, &digests].concat();
        assert_eq!(transact(&data, &extend)[6..10], [0; 4]);
    }
    drop(child);
    bench.settle();
    // The state on the disk is no plain text: another key does not open it.
    let state = std::fs::read(folder.path().join("tpm2-00.permall")).unwrap();
    assert!(!state.windows(32).any(|window| window == [11; 32]));
}
