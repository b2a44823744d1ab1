//! The shell against TPMs that these tests play, and against the real one where the build's tools have it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use approval::{Approver, BEFORE_GUEST, Digest, FIRMWARE as OF_FIRMWARE, extended, firmware_policy, sha256};
use hw_tpm::{Point, Secret, UnsealError};
use template::{FileSum, Manifest, Recipe, Root, SigningKey};
use zone_protocol::keeper::{Cause, Factor, PinState, Recovery};

use super::*;
use crate::certificate::tests::{Authority, read};
use crate::epochs::Epochs;
use crate::secrets::SecretError;

/// Who signs templates here.
fn signer(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 8], [number; 32])
}

/// A template's manifest.
fn manifest(name: &'static str, kernel: u8, initrd: u8, command_line: &'static str) -> Manifest {
    let sum = |byte| FileSum { size: 5, sha256: [byte; 32] };
    let root = Root { size: 4096, sha256: [1; 32], data_blocks: 1, verity: [2; 32] };
    let recipe = Recipe { name, epoch: 3, version: 7, memory_min_mib: 96, command_line };
    Manifest::new(&recipe, sum(kernel), sum(initrd), root).unwrap()
}

fn micro() -> Manifest {
    manifest("micro", 4, 9, "quiet")
}

/// What zones begin with here.
const FIRMWARE: &[u8] = &[0xF0; 9000];

/// Secrets that tests know.
struct KnownSecrets {
    made: std::rc::Rc<std::cell::RefCell<Vec<String>>>,
    authority: std::rc::Rc<Authority>,
    key: ApprovalKey,
    epochs: Epochs,
}

impl Secrets for KnownSecrets {
    fn open(&mut self, zone: &str, how: How<'_>) -> Result<(Secret, bool), SecretError> {
        match (zone, how) {
            ("pinned", How::Alone | How::User { typed: None, .. }) => {
                return Err(UnsealError::PinNeeded.into());
            }
            ("pinned", How::User { typed, .. }) if typed != Some("123456") => {
                return Err(UnsealError::WrongPin.into());
            }
            _ => {}
        }
        if zone == "keyless" {
            return Err(SecretError::Random(std::io::ErrorKind::NotFound.into()));
        }
        Ok((Secret::new([0x6B; 32]), self.made.borrow().iter().any(|made| made == zone)))
    }

    fn pin(&mut self, zone: &str) -> PinState {
        let chosen = zone == "pinned";
        PinState { chosen, tries_left: chosen.then_some(3), public_key: None }
    }

    fn new_recovery_key(&mut self) -> Result<Zeroizing<String>, SecretError> {
        Ok("000011".to_owned().into())
    }

    fn note(&mut self, typed: &str) -> Result<(), SecretError> {
        if typed == "000011" { Ok(()) } else { Err(SecretError::WrongKey) }
    }

    fn recovery(&mut self) -> Recovery {
        Recovery::Shown
    }

    fn certify(&mut self, endorsement: &Point) -> Result<Vec<u8>, SecretError> {
        Ok(self.authority.certify(endorsement))
    }

    fn check_epochs(&mut self, approvals: &[Approval]) -> Result<(), SecretError> {
        Ok(approvals.iter().try_for_each(|approval| self.epochs.check(&self.key, approval))?)
    }

    fn used(&mut self, approvals: &[Approval]) {
        for approval in approvals {
            self.epochs.used(approval);
        }
    }

    fn made(&mut self, zone: &str) -> Result<(), SecretError> {
        self.made.borrow_mut().push(zone.to_owned());
        Ok(())
    }
}

/// A start of a template, as its maker signs and approves it.
fn start(manifest: &Manifest, approver: &Approver) -> Start {
    let text = manifest.encode();
    Start {
        template: manifest.name.clone(),
        signature: signer(1).sign(text.as_bytes()).into_bytes(),
        manifest: text.into_bytes(),
        approval: template::approve(manifest, approver).unwrap(),
        user: "anna".to_owned(),
        keep: vec!["/srv".to_owned()],
    }
}

struct Bench {
    tpms: Tpms,
    init: Channel,
    zoned: Channel,
    approver: Approver,
    /// What zones begin with now.
    start: Start,
    authority: std::rc::Rc<Authority>,
    made: std::rc::Rc<std::cell::RefCell<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        let (init, theirs) = Channel::pair().unwrap();
        let (zoned, of_keeper) = Channel::pair().unwrap();
        zoned.set_nonblocking().unwrap();
        init.set_nonblocking().unwrap();
        let approver = Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap();
        let approval =
            approver.approve(OF_FIRMWARE, BEFORE_GUEST, 1, firmware_policy(&sha256(&[FIRMWARE]))).unwrap();
        let rules = Rules::parse(&Rules::text(3, &signer(1).public_key())).unwrap();
        let image = Image { firmware: FIRMWARE.to_vec(), key: approver.key().unwrap(), approval, rules };
        let start = start(&micro(), &approver);
        let authority = std::rc::Rc::new(Authority::new());
        let secrets = KnownSecrets {
            made: std::rc::Rc::default(),
            authority: std::rc::Rc::clone(&authority),
            key: approver.key().unwrap(),
            epochs: Epochs::default(),
        };
        let made = std::rc::Rc::clone(&secrets.made);
        let tpms = Tpms::new(theirs, of_keeper, Box::new(secrets), image).unwrap();
        Self { tpms, init, zoned, approver, start, made, authority }
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
        let started = FromInit::TpmStarted { slot, zone: zone.to_owned(), disposable: zone == "disposable" };
        self.init.send(&started, &[of_keeper.as_fd(), into_key.as_fd()]).unwrap();
        control.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        drop(into_key);
        self.settle();
        (control, key)
    }

    fn begin(&mut self, slot: u8, number: u32) {
        let begin = ToKeeper::Begin { slot, number, start: self.start.clone(), disk: true };
        self.zoned.send(&begin, &[]).unwrap();
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
            Some(_) | None => None,
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
    assert_eq!(bytes[..32], ZoneKeys::of(&[0x6B; 32]).state[..]);
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
    // It waits for its key until its zone ends, and the zone's user hears why.
    let (_control, key) = bench.started(0, "keyless");
    rustix::io::ioctl_fionbio(&key, true).unwrap();
    assert_eq!(rustix::io::read(&key, &mut [0; 64]), Err(Errno::AGAIN));
    bench.begin(0, 2);
    assert_eq!(bench.failed(), is(0, 2, "does not open: there are no random numbers: entity not found"));
    bench.start.approval.push(0);
    let (_control, _key) = bench.started(0, "office");
    bench.begin(0, 2);
    let reason = "gives nothing out: the approval of the template: bytes that are no approvals";
    assert_eq!(bench.failed(), is(0, 2, reason));
    bench.start.approval.pop();
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

impl Bench {
    /// A user opens the zone "pinned"; the answer.
    fn open(&mut self, number: u32, typed: Option<&str>) -> FromKeeper {
        let pin = typed.map(|typed| Digits(typed.to_owned().into()));
        let factor = Factor::Pin { tries: 3 };
        let zone = "pinned".to_owned();
        let open = ToKeeper::Open {
            slot: 4,
            number,
            zone,
            factor,
            pin,
            purpose: Purpose::Start { tunnel: true },
            recovery: None,
        };
        self.zoned.send(&open, &[]).unwrap();
        let (answer, key) = self.next_answer();
        let key = key.into_iter().next().map(|key| {
            let mut bytes = [0; 40];
            // It can be read again, and not be changed.
            for _ in 0..2 {
                assert_eq!(rustix::io::pread(&key, &mut bytes, 0), Ok(32));
            }
            assert_eq!(rustix::io::pwrite(&key, &[1], 0), Err(Errno::PERM));
            bytes
        });
        let opened = matches!(answer, FromKeeper::Opened { .. });
        let expected = opened.then(|| **ZoneKeys::of(&[0x6B; 32]).tunnel);
        assert_eq!(key.map(|key| key[..32].try_into().unwrap()), expected);
        answer
    }

    /// Whether the TPM of the zone "pinned" gets its key when it is started now.
    fn gets_key(&mut self) -> bool {
        let (_control, key) = self.started(4, "pinned");
        rustix::io::ioctl_fionbio(&key, true).unwrap();
        rustix::io::read(&key, &mut [0; 64]) == Ok(32)
    }
}

#[test]
fn what_a_user_opened_serves_one_start_of_that_zone() {
    let mut bench = Bench::new();
    let pin = PinState { chosen: true, tries_left: Some(3), public_key: None };
    assert!(!bench.gets_key());
    for (typed, cause, reason) in [
        (None, Cause::PinNeeded, "The zone asks for a PIN. Open the zone with it."),
        (Some("654321"), Cause::WrongPin, "Wrong PIN. Try again."),
    ] {
        let refused = FromKeeper::NotOpened { slot: 4, number: 6, cause, reason: reason.to_owned(), pin };
        assert_eq!(bench.open(6, typed), refused);
        assert!(!bench.gets_key());
    }
    assert_eq!(bench.open(7, Some("123456")), FromKeeper::Opened { slot: 4, number: 7, pin });
    assert!(bench.gets_key());
    assert!(!bench.gets_key());
    // A wrong PIN closes what a right one opened, and so does time.
    bench.open(8, Some("123456"));
    bench.open(9, Some("654321"));
    assert!(!bench.gets_key());
    bench.open(8, Some("123456"));
    bench.tpms.opened.get_mut(&4).unwrap().until = Instant::now();
    bench.settle();
    assert!(!bench.gets_key());
    // Another zone in its place has nothing of it.
    bench.open(8, Some("123456"));
    bench.tpms.opened.get_mut(&4).unwrap().zone = "other".to_owned();
    assert!(!bench.gets_key());
    bench.zoned.send(&ToKeeper::AskPin { slot: 4, zone: "pinned".to_owned() }, &[]).unwrap();
    assert_eq!(bench.next_answer().0, FromKeeper::Pin { slot: 4, pin });
}

#[test]
fn a_recovery_key_is_made_and_noted() {
    let mut bench = Bench::new();
    let state = Recovery::Shown;
    for (asked, answer) in [
        (ToKeeper::AskRecovery, RecoveryAnswer::State),
        (ToKeeper::NewRecoveryKey { number: 0 }, RecoveryAnswer::Key(Digits("000011".to_owned().into()))),
        (
            ToKeeper::NoteRecoveryKey { number: 0, key: Digits("000022".to_owned().into()) },
            RecoveryAnswer::Refused("This is another recovery key.".to_owned()),
        ),
        (
            ToKeeper::NoteRecoveryKey { number: 0, key: Digits("000011".to_owned().into()) },
            RecoveryAnswer::Noted,
        ),
    ] {
        bench.zoned.send(&asked, &[]).unwrap();
        assert_eq!(bench.next_answer().0, FromKeeper::Recovery { number: 0, state, answer });
    }
}

#[test]
fn a_keeper_that_was_started_again_takes_a_living_tpm_over() {
    let mut bench = Bench::new();
    bench.made.borrow_mut().push("office".to_owned());
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

/// The SHA-256 bank's register.
fn register(data: &OwnedFd, number: u8) -> Vec<u8> {
    let mut selected = [0; 3];
    selected[usize::from(number / 8)] = 1 << (number % 8);
    let read = [&[0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3][..], &selected].concat();
    let response = transact(data, &read);
    response[response.len() - 32..].to_vec()
}

/// What a guest finds of its endorsement key's certificate, which is about the very key that it makes, and which it cannot
/// remove or write.
fn certificate(data: &OwnedFd, authority: &Point) -> Vec<u8> {
    use crate::commands::{certificate_index, create_endorsement_key, endorsement_template, flush};
    let index = [0x01, 0xC0, 0, 0x0A];
    let public = transact(data, &[&[0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x69][..], &index].concat());
    // Behind header and size: the index, SHA-256, attributes (and WRITTEN), no policy, the size.
    assert_eq!(public[12..24], [&index[..], &[0, 0x0B, 0x62, 0x07, 0, 1, 0, 0]].concat());
    let size = &public[24..26];
    let session = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let read_index =
        [&[0x80, 2, 0, 0, 0, 35, 0, 0, 1, 0x4E][..], &index, &index, &session, size, &[0, 0]].concat();
    let response = transact(data, &read_index);
    let certificate = response[16..16 + usize::from(u16::from_be_bytes([size[0], size[1]]))].to_vec();
    let (_, certified) = read(&certificate, authority).unwrap();
    let made = transact(data, &create_endorsement_key());
    let point = &made[20 + endorsement_template().len()..];
    assert_eq!((&point[2..34], &point[36..68]), (&certified.x[..], &certified.y[..]));
    let handle = u32::from_be_bytes(made[10..14].try_into().unwrap());
    assert_eq!(transact(data, &flush(handle))[6..10], [0; 4]);
    // What it says of this TPM is what the TPM says: family, level, revision, manufacturer, firmware.
    let properties =
        transact(data, &[0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 12]);
    let property = |number: usize| &properties[19 + 8 * number + 4..][..4];
    assert_eq!([0, 1, 2].map(property), [b"2.0\0", &[0; 4], &[0, 0, 0, 164]]);
    let (manufacturer, firmware) = (property(5), property(11));
    for bytes in [manufacturer, firmware] {
        let text: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let text = format!("id:{text}");
        assert!(certificate.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    // As the owner, with the platform's authorization gone: TPM_RC_NV_AUTHORIZATION.
    let owner = [0x40, 0, 0, 1];
    let mut undefine = crate::commands::undefine(certificate_index(0));
    let mut write = crate::commands::write(certificate_index(1), &[0]);
    for forbidden in [&mut undefine, &mut write] {
        forbidden[10..14].copy_from_slice(&owner);
        assert_eq!(transact(data, forbidden)[6..10], [0, 0, 1, 0x49]);
    }
    // And as the index itself: TPM_RC_AUTH_UNAVAILABLE.
    write[10..14].copy_from_slice(&index);
    assert_eq!(transact(data, &write)[6..10], [0, 0, 1, 0x2F]);
    certificate
}

/// What `init` gets for a zone's disk.
fn disk_key(bench: &Bench) -> Option<Vec<u8>> {
    let (ToInit::DiskKey { slot: 0 }, pipes) = bench.init.receive::<ToInit>().ok()? else { return None };
    let mut key = vec![0; 128];
    let count = rustix::io::read(&pipes[0], &mut key).unwrap();
    key.truncate(count);
    Some(key)
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
    let measured = |digest: &Digest| extended(&[0; 32], digest);
    let expected = [
        extended(&locality, &sha256(&[FIRMWARE])),
        measured(&[4; 32]),
        measured(&sha256(&[micro().command_line().as_bytes()])),
        measured(&[9; 32]),
        [0; 32],
    ];
    let mut keys = Vec::new();
    let mut records = Vec::new();
    let mut certificates = Vec::new();
    for number in 1..=3 {
        bench.begin(0, number);
        let (answer, mut descriptors) = bench.next_answer();
        assert_eq!(answer, FromKeeper::Ready { slot: 0, number });
        keys.push(disk_key(&bench).unwrap());
        let data = descriptors.remove(0);
        let registers = [0, 4, 8, 9, 11].map(|number| register(&data, number));
        assert_eq!(registers, expected);
        let mut record = vec![0; 4096];
        let count = rustix::io::read(&descriptors[0], &mut record).unwrap();
        record.truncate(count);
        let decoded = handover::record::Record::decode(&record).unwrap();
        assert!(decoded.credentials().any(|credential| credential == ("bulkhead.user", &b"anna"[..])));
        assert!(decoded.credentials().any(|credential| credential == ("bulkhead.keep", &b"/srv"[..])));
        // The record: TPM2_NV_Read with the index's own, empty, authorization.
        let index = [0x01, 0x40, 0, 1];
        let session = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let read =
            [&[0x80, 2, 0, 0, 0, 35, 0, 0, 1, 0x4E][..], &index, &index, &session, &[0, 32, 0, 0]].concat();
        let response = transact(&data, &read);
        assert_eq!(response.get(16..48), Some(&sha256(&[&record])[..]), "{response:x?}");
        records.push(record);
        certificates.push(certificate(&data, &bench.authority.point()));
        // A guest measures, and is reset: nothing of it is left.
        let digests = [&[0, 0, 0, 1, 0, 0x0B][..], &[1; 32]].concat();
        let extend = [&[0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 11][..], &session, &digests].concat();
        assert_eq!(transact(&data, &extend)[6..10], [0; 4]);
        // Behind that nobody reads what the TPM keeps: with the authorization the policy does not hold.
        let auth = &ZoneKeys::of(&[0x6B; 32]).auth;
        let policy = transact(&data, &crate::commands::policy_session());
        let handle = u32::from_be_bytes(policy[10..14].try_into().unwrap());
        assert_eq!(transact(&data, &crate::commands::policy_password(handle))[6..10], [0; 4]);
        let refused = transact(&data, &crate::commands::read(crate::commands::KEPT, handle, &auth[..]));
        assert_eq!(refused[6..10], 0x99D_u32.to_be_bytes(), "{refused:x?}");
    }
    assert!(keys[0].len() == DISK_KEY_BYTES && keys.iter().all(|key| *key == keys[0]));
    assert!(certificates.iter().all(|certificate| *certificate == certificates[0]));
    assert!(records[0] != records[1] && records[1] != records[2], "each start has a record of its own");
    assert_eq!(*bench.made.borrow(), ["office"]);
    drop(child);
    bench.settle();
    // The state on the disk is no plain text.
    let state = std::fs::read(folder.path().join("tpm2-00.permall")).unwrap();
    assert!(!state.windows(32).any(|window| window == &keys[0][..32]));
    // The next process, on the same state, gives the same.
    let (control, key) = bench.started(0, "office");
    let child = swtpm(folder.path(), control, key).unwrap();
    bench.begin(0, 4);
    assert_eq!(bench.next_answer().0, FromKeeper::Ready { slot: 0, number: 4 });
    assert_eq!(disk_key(&bench).as_ref(), Some(&keys[0]));
    it_locks_and_unlocks(&mut bench, &keys[0]);
    nothing_else_opens(&mut bench);
    drop(child);
}

/// A zone that stands still is locked: nothing begins its TPM, and its disk's key comes back for its user alone.
fn it_locks_and_unlocks(bench: &mut Bench, key: &[u8]) {
    let open = |number, zone: &str, purpose| {
        let (zone, factor) = (zone.to_owned(), Factor::Touch);
        ToKeeper::Open { slot: 0, number, zone, factor, pin: None, purpose, recovery: None }
    };
    let refusal = |bench: &mut Bench, number| {
        bench.zoned.send(&ToKeeper::Lock { slot: 0, number }, &[]).unwrap();
        let FromKeeper::Locked { slot: 0, number: of, refused } = bench.next_answer().0 else { panic!() };
        assert_eq!(of, number);
        refused
    };
    assert_eq!(refusal(bench, 5), None);
    bench.begin(0, 6);
    assert_eq!(bench.failed(), is(0, 6, "is locked"));
    assert!(disk_key(bench).is_none());
    // Another zone opens, and a proof: neither is this zone's unlocking.
    bench.zoned.send(&open(7, "research", Purpose::Unlock), &[]).unwrap();
    assert!(matches!(bench.next_answer().0, FromKeeper::NotOpened { number: 7, .. }));
    bench.zoned.send(&open(8, "office", Purpose::Proof), &[]).unwrap();
    assert!(matches!(bench.next_answer().0, FromKeeper::Opened { number: 8, .. }));
    assert!(disk_key(bench).is_none());
    bench.zoned.send(&open(9, "office", Purpose::Unlock), &[]).unwrap();
    assert!(matches!(bench.next_answer().0, FromKeeper::Opened { number: 9, .. }));
    assert_eq!(disk_key(bench).as_deref(), Some(key));
    // It begins again, and can be locked again.
    bench.begin(0, 6);
    assert_eq!(bench.next_answer().0, FromKeeper::Ready { slot: 0, number: 6 });
    assert_eq!(disk_key(bench).as_deref(), Some(key));
    assert_eq!(refusal(bench, 11), None);
    bench.zoned.send(&open(12, "office", Purpose::Unlock), &[]).unwrap();
    assert!(matches!(bench.next_answer().0, FromKeeper::Opened { number: 12, .. }));
    assert_eq!(disk_key(bench).as_deref(), Some(key));
}

#[test]
fn what_cannot_come_back_is_not_locked() {
    let mut bench = Bench::new();
    let lock = |bench: &mut Bench, slot| {
        bench.zoned.send(&ToKeeper::Lock { slot, number: 1 }, &[]).unwrap();
        let FromKeeper::Locked { number: 1, refused, .. } = bench.next_answer().0 else { panic!() };
        refused
    };
    assert_eq!(lock(&mut bench, 0).as_deref(), Some("it has no TPM"));
    let _disposable = bench.started(1, "disposable");
    assert_eq!(
        lock(&mut bench, 1).as_deref(),
        Some("its disk's key is kept nowhere, so nothing could unlock it")
    );
    // A keeper that was started again knows no part of the disk's key.
    let (_control, of_keeper) = UnixStream::pair().unwrap();
    let lives = FromInit::TpmLives { slot: 2, zone: "office".to_owned() };
    bench.init.send(&lives, &[of_keeper.as_fd()]).unwrap();
    bench.settle();
    assert!(lock(&mut bench, 2).unwrap().contains("stop it instead"));
    let zone = "office".to_owned();
    let (factor, purpose) = (Factor::Touch, Purpose::Unlock);
    let open = ToKeeper::Open { slot: 2, number: 3, zone, factor, pin: None, purpose, recovery: None };
    bench.zoned.send(&open, &[]).unwrap();
    let FromKeeper::NotOpened { number: 3, reason, .. } = bench.next_answer().0 else { panic!() };
    assert!(reason.contains("Stop the zone and open it again"), "{reason}");
    // The display's lock has nothing behind it.
    for (purpose, opens) in [(Purpose::Proof, true), (Purpose::Unlock, false)] {
        let zone = SCREEN.to_owned();
        let open = ToKeeper::Open { slot: 255, number: 4, zone, factor, pin: None, purpose, recovery: None };
        bench.zoned.send(&open, &[]).unwrap();
        assert_eq!(matches!(bench.next_answer().0, FromKeeper::Opened { .. }), opens);
    }
    assert!(bench.tpms.opened.is_empty());
}

/// Whatever is not approved gets nothing, and what is opens again afterwards.
fn nothing_else_opens(bench: &mut Bench) {
    let firmware = "gives nothing out: this host's firmware for zones is not approved. Install an image whose maker you \
                    trust";
    let template = "gives nothing out: the zone's kernel, command line or initrd are not approved for its template. \
                    Install the template again";
    let signature = "gives nothing out: an approval is not signed by the key that it was made for. Install the template again";
    let good = bench.start.clone();
    let mut number = 10;
    let mut refused = |bench: &mut Bench, reason: &str| {
        number += 1;
        bench.begin(0, number);
        let failed = FromKeeper::Failed { slot: 0, number, reason: reason.to_owned() };
        assert_eq!(bench.next_answer().0, failed);
        assert!(disk_key(bench).is_none(), "a key went out: {reason}");
    };
    // Another kernel, initrd or command line, signed, and not approved.
    let approver = std::mem::replace(&mut bench.approver, stranger());
    for other in
        [manifest("micro", 5, 9, "quiet"), manifest("micro", 4, 8, "quiet"), manifest("micro", 4, 9, "quieu")]
    {
        bench.start = Start { approval: good.approval.clone(), ..start(&other, &approver) };
        refused(bench, template);
    }
    bench.start = good.clone();
    // One bit in the firmware.
    bench.tpms.image.firmware[4000] ^= 1;
    refused(bench, firmware);
    bench.tpms.image.firmware[4000] ^= 1;
    // Another template's approval, for the same kernel, initrd and command line.
    let other =
        Start { approval: good.approval.clone(), ..start(&manifest("debian", 4, 9, "quiet"), &approver) };
    bench.start = other;
    refused(bench, signature);
    // A template that its maker signed and approved, and that this zone's disk was not made for.
    bench.start = start(&manifest("debian", 4, 9, "quiet"), &approver);
    refused(bench, template);
    // Another key.
    bench.start = Start { approval: start(&micro(), &stranger()).approval, ..good.clone() };
    refused(bench, signature);
    // An update that its maker approved opens.
    bench.start = start(&manifest("micro", 0x44, 9, "quiet"), &approver);
    bench.begin(0, 90);
    assert_eq!(bench.next_answer().0, FromKeeper::Ready { slot: 0, number: 90 });
    let key = disk_key(bench).unwrap();
    a_revoked_epoch_opens_nothing(bench, &approver, &key);
    bench.approver = approver;
}

/// From the first start with a newer epoch on, older approvals count no more: for the same data.
fn a_revoked_epoch_opens_nothing(bench: &mut Bench, approver: &Approver, key: &[u8]) {
    let of_epoch = |epoch: u32, told: u32| {
        let text = micro().encode().replace("epoch = 3", &format!("epoch = {epoch}"));
        let start = start(&Manifest::decode(text.as_bytes()).unwrap(), approver);
        let mut approval = Approval::decode(&start.approval).unwrap();
        approval.epoch = told;
        Start { approval: approval.encode(), ..start }
    };
    let old = "gives nothing out: the approval for \"bulkhead template micro\": epoch: found 3, allowed is 4 or above, \
               which this machine has used already. Install the newer one again";
    let lie = "gives nothing out: the epoch of the approval for \"bulkhead template micro\" is not signed by the key \
               that approves. Install the newer one again";
    for (number, epoch, told, refusal) in
        [(91, 3, 3, None), (92, 4, 4, None), (93, 3, 3, Some(old)), (94, 3, 4, Some(lie)), (95, 4, 4, None)]
    {
        bench.start = of_epoch(epoch, told);
        bench.begin(0, number);
        let answer = bench.next_answer().0;
        match refusal {
            None => {
                assert_eq!(answer, FromKeeper::Ready { slot: 0, number });
                assert_eq!(disk_key(bench).as_deref(), Some(key));
            }
            Some(reason) => {
                assert_eq!(answer, FromKeeper::Failed { slot: 0, number, reason: reason.to_owned() });
                assert!(disk_key(bench).is_none());
            }
        }
    }
}

/// Another maker of images.
fn stranger() -> Approver {
    Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap()
}

#[test]
fn a_template_that_its_maker_did_not_sign_is_measured_nowhere() {
    let mut bench = Bench::new();
    let (mut control, _key) = bench.started(0, "office");
    control.set_nonblocking(true).unwrap();
    let good = bench.start.clone();
    let old = micro().encode().replace("epoch = 3", "epoch = 2");
    let of_old = signer(1).sign(old.as_bytes()).into_bytes();
    let mut altered = good.manifest.clone();
    let digit = altered.iter().position(|byte| *byte == b'4').unwrap();
    altered[digit] = b'5';
    let forged = signer(2).sign(&good.manifest).into_bytes();
    let debian = start(&manifest("debian", 4, 9, "quiet"), &bench.approver);
    let key = "0101010101010101";
    for (start, reason) in [
        (
            // A zoned that was taken over has its own kernel measured.
            Start { manifest: altered, ..good.clone() },
            format!(
                "signature: found one by key {key} that does not fit the manifest, allowed are the signed bytes only"
            ),
        ),
        (
            Start { signature: forged, ..good.clone() },
            format!("signature: found one by key 0202020202020202, allowed is one by {key}"),
        ),
        (
            // An approved kernel of another template.
            Start { manifest: debian.manifest, signature: debian.signature, ..good.clone() },
            "name: found \"debian\", allowed is \"micro\"".to_owned(),
        ),
        (
            Start { manifest: old.into_bytes(), signature: of_old, ..good.clone() },
            "epoch: found 2, allowed is 3 or above".to_owned(),
        ),
    ] {
        bench.start = start;
        bench.begin(0, 7);
        assert_eq!(
            bench.failed(),
            is(0, 7, &format!("gives nothing out: the manifest of the template: {reason}"))
        );
        // The TPM heard nothing.
        assert_eq!(control.read(&mut [0; 4]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    bench.start = good;
    bench.begin(0, 8);
    assert_eq!(control.read(&mut [0; 4]).unwrap(), 4);
}
