//! Zones' secrets in a real TPM: swtpm of the build's tools.

#[path = "../../../hw_tpm/tests/swtpm/hardware.rs"]
mod hardware;

use std::io::{Read, Write};
use std::path::Path;

use approval::{Approver, RUNNING, host_policy};
use tempfile::TempDir;

use super::*;
use crate::certificate::tests::{Authority, read};
use hardware::Hardware as Machine;

const ONE: &str = "135790";
const OTHER: &str = "246802";

struct World {
    machine: Machine,
    folder: TempDir,
    key: ApprovalKey,
    approval: Approval,
    approver: Approver,
}

fn touch(typed: Option<&str>) -> How<'_> {
    How::User { factor: Factor::Touch, typed }
}

fn pin(tries: u8, typed: &str) -> How<'_> {
    How::User { factor: Factor::Pin { tries }, typed: Some(typed) }
}

impl World {
    fn new() -> Self {
        let approver = Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap();
        let approval = approver.approve(HOST, RUNNING, 1, host_policy(&[[0; 32]; 3])).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { machine: Machine::new(), folder, key: approver.key().unwrap(), approval, approver }
    }

    /// As a `keeper` that was just started.
    fn keeper(&self) -> Hardware {
        let store = Store::open(self.folder.path()).unwrap();
        Hardware::new(&self.machine.device(), store, self.key, vec![self.approval.clone()])
    }

    fn open(&self, zone: &str, how: How<'_>) -> Result<[u8; 32], Cause> {
        let opened = self.keeper().open(zone, how);
        opened.map(|(secret, _)| *secret.as_bytes()).map_err(|error| error.cause())
    }

    fn tries_left(&self, zone: &str) -> Option<u32> {
        let known = self.keeper().pin(zone);
        assert!(known.chosen);
        known.tries_left
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        Path::join(self.folder.path(), name)
    }
}

#[test]
fn a_zone_opens_with_its_pin_alone_and_wrong_ones_are_its_own() {
    let mut world = World::new();
    assert_eq!(world.keeper().pin("office"), PinState::default());
    assert_eq!(
        world.open("office", How::User { factor: Factor::Pin { tries: 3 }, typed: None }),
        Err(Cause::PinNeeded)
    );
    assert_eq!(world.open("office", pin(3, "12345")), Err(Cause::BadPin));
    // Nothing was made by those.
    assert!(!world.file("office.zone").exists());
    let (office, vault) =
        (world.open("office", pin(3, ONE)).unwrap(), world.open("vault", pin(3, OTHER)).unwrap());
    let research = world.open("research", touch(None)).unwrap();
    assert_ne!(office, vault);
    assert_eq!(world.tries_left("office"), Some(3));
    for left in [2, 1] {
        assert_eq!(world.open("office", pin(3, OTHER)), Err(Cause::WrongPin));
        world.machine.power_cut();
        assert_eq!(world.tries_left("office"), Some(left));
    }
    assert_eq!(world.open("office", pin(3, ONE)), Ok(office));
    world.machine.power_cut();
    assert_eq!(world.tries_left("office"), Some(3));
    for how in [How::Alone, touch(None)] {
        assert_eq!(world.open("office", how), Err(Cause::PinNeeded));
    }
    for _ in 0..3 {
        assert_eq!(world.open("office", pin(3, OTHER)), Err(Cause::WrongPin));
    }
    assert_eq!(world.open("office", pin(3, ONE)), Err(Cause::LockedOut));
    // Another limit in the policy opens nothing by itself.
    assert_eq!(world.open("office", pin(9, ONE)), Err(Cause::LockedOut));
    assert_eq!(world.tries_left("office"), Some(0));
    assert_eq!(world.tries_left("vault"), Some(3));
    assert_eq!(world.open("vault", pin(3, OTHER)), Ok(vault));
    assert_eq!(world.open("research", How::Alone), Ok(research));
}

#[test]
fn a_zone_is_sealed_anew_as_the_policy_wants_it() {
    let world = World::new();
    let secret = world.open("office", touch(None)).unwrap();
    let PinState { chosen, tries_left, public_key } = world.keeper().pin("office");
    assert_eq!((chosen, tries_left), (false, None));
    assert_eq!(public_key, Some(ZoneKeys::of(&secret).tunnel_public()));
    let of_touch = std::fs::read(world.file("office.zone")).unwrap();
    assert_eq!(world.open("office", pin(3, ONE)), Ok(secret));
    assert_eq!(world.open("office", pin(3, OTHER)), Err(Cause::WrongPin));
    assert_eq!(world.open("office", pin(7, ONE)), Ok(secret));
    assert_eq!(world.tries_left("office"), Some(7));
    let of_seven = std::fs::read(world.file("office.zone")).unwrap();
    // Without a PIN in the policy, it is needed once more.
    assert_eq!(world.open("office", touch(None)), Err(Cause::PinNeeded));
    assert_eq!(world.open("office", touch(Some(ONE))), Ok(secret));
    assert_eq!(world.open("office", How::Alone), Ok(secret));
    // An older file does not bring its PIN back: the TPM has forgotten it.
    std::fs::write(world.file("office.zone"), of_seven).unwrap();
    assert_eq!(world.open("office", pin(7, ONE)), Err(Cause::TpmCleared));
    // What was sealed without a PIN opens as long as somebody has kept it: SECURITY.md says so.
    std::fs::write(world.file("office.zone"), of_touch).unwrap();
    assert_eq!(world.open("office", How::Alone), Ok(secret));
}

#[test]
fn a_tpm_that_was_half_taken_into_use_is_taken_whole() {
    let mut world = World::new();
    world.open("office", touch(None)).unwrap();
    // As a power cut leaves it: the record is there, and does not say that the owner has the authorization.
    let store = Store::open(world.folder.path()).unwrap();
    let machine = store.machine().unwrap().unwrap();
    store.keep_machine(&hw_tpm::Machine { owned: false, ..machine }).unwrap();
    world.machine.power_cut();
    world.open("vault", pin(3, ONE)).unwrap();
    assert!(store.machine().unwrap().unwrap().owned);
}

#[test]
fn the_lockout_is_set_when_the_tpm_is_taken_into_use() {
    let world = World::new();
    world.open("office", touch(None)).unwrap();
    // TPM2_GetCapability of three properties, from TPM_PT_MAX_AUTH_FAIL on.
    let ask = [0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 6, 0, 0, 2, 0x0F, 0, 0, 0, 3];
    let device = world.machine.device();
    let (_, port) = device.rsplit_once('=').unwrap();
    let mut tpm = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    tpm.write_all(&ask).unwrap();
    let mut answer = [0; 19 + 3 * 8];
    tpm.read_exact(&mut answer).unwrap();
    // Pairs of a property's number and its value.
    let said = [0, 1, 2].map(|number| &answer[23 + 8 * number..][..4]);
    assert_eq!(said.concat(), hw_tpm::LOCKOUT.map(u32::to_be_bytes).concat());
}

#[test]
fn a_revoked_host_opens_nothing_and_a_newer_one_everything() {
    let mut world = World::new();
    let office = world.open("office", touch(None)).unwrap();
    let of_epoch = |world: &mut World, epoch| {
        let (policy, purpose) = (host_policy(&[[0; 32]; 3]), HOST);
        world.approval = world.approver.approve(purpose, RUNNING, epoch, policy).unwrap();
    };
    of_epoch(&mut world, 2);
    assert_eq!(world.open("office", touch(None)), Ok(office));
    of_epoch(&mut world, 1);
    let refused = world.keeper().open("office", touch(None)).unwrap_err();
    assert_eq!(refused.cause(), Cause::NotApproved);
    let sentence = "the approval for \"bulkhead host\": epoch: found 1, allowed is 2 or above, which this machine has used \
                    already. Install the newer one again";
    assert_eq!(refused.to_string(), sentence);
    // The same of a template; and whoever removes the file has gained nothing.
    let template = |world: &World, epoch| {
        world.approver.approve("bulkhead template micro", "before the guest", epoch, [6; 32]).unwrap()
    };
    of_epoch(&mut world, 3);
    let (older, newer) = (template(&world, 1), template(&world, 2));
    let mut keeper = world.keeper();
    keeper.check_epochs(&[older.clone(), newer.clone()]).unwrap();
    keeper.used(std::slice::from_ref(&newer));
    assert!(matches!(keeper.check_epochs(std::slice::from_ref(&older)), Err(SecretError::Epoch(_))));
    drop(keeper);
    std::fs::remove_file(world.file("epochs.used")).unwrap();
    world.machine.power_cut();
    assert!(matches!(world.keeper().check_epochs(std::slice::from_ref(&older)), Err(SecretError::Epoch(_))));
    world.keeper().check_epochs(std::slice::from_ref(&newer)).unwrap();
    of_epoch(&mut world, 1);
    assert_eq!(world.open("office", touch(None)), Err(Cause::NotApproved));
    of_epoch(&mut world, 3);
    assert_eq!(world.open("office", touch(None)), Ok(office));
    // Without the TPM the file holds.
    world.keeper().used(&[template(&world, 4)]);
    let store = Store::open(world.folder.path()).unwrap();
    let mut lost = Hardware::new("swtpm:host=127.0.0.1,port=1", store, world.key, Vec::new());
    assert!(matches!(lost.check_epochs(std::slice::from_ref(&newer)), Err(SecretError::Epoch(_))));
    // And what the file says, the next TPM knows after the first zone that opened with it.
    world.machine = Machine::new();
    std::fs::remove_file(world.file("machine.tpm")).unwrap();
    world.open("vault", touch(None)).unwrap();
    std::fs::remove_file(world.file("epochs.used")).unwrap();
    assert!(matches!(world.keeper().check_epochs(&[newer]), Err(SecretError::Epoch(_))));
}

#[test]
fn the_tpm_certifies_and_another_one_is_another_authority() {
    let mut world = World::new();
    world.open("office", touch(None)).unwrap();
    let authority = |world: &World| {
        let store = Store::open(world.folder.path()).unwrap();
        Point::of(&store.machine().unwrap().unwrap().authority).unwrap()
    };
    let one = authority(&world);
    let endorsement = Authority::new().point();
    let first = world.keeper().certify(&endorsement).unwrap();
    let (_, certified) = read(&first, &one).unwrap();
    assert_eq!(certified, endorsement);
    let own = std::fs::read(world.file("authority.crt")).unwrap();
    let (own, key) = read(&own, &one).unwrap();
    assert_eq!((key, &own.tbs_certificate.subject), (one, &own.tbs_certificate.issuer));
    world.machine.power_cut();
    // The same authority, another serial number.
    let second = world.keeper().certify(&endorsement).unwrap();
    assert!(read(&second, &one).is_some() && second != first);
    // An altered key signs nothing; nor does one of another TPM.
    let key = world.keeper().new_recovery_key().unwrap();
    world.keeper().note(&key).unwrap();
    world.open("office", touch(None)).unwrap();
    world.machine = Machine::new();
    assert!(matches!(world.keeper().certify(&endorsement), Err(SecretError::Open(OpenTpmError::Cleared))));
    world.open("office", How::Recovery { factor: Factor::Touch, typed: None, key: &key }).unwrap();
    let third = world.keeper().certify(&endorsement).unwrap();
    let other = authority(&world);
    assert!(other != one && read(&third, &one).is_none() && read(&third, &other).is_some());
    let own = std::fs::read(world.file("authority.crt")).unwrap();
    assert!(read(&own, &other).is_some());
}

fn recover<'a>(tries: u8, typed: &'a str, key: &'a str) -> How<'a> {
    How::Recovery { factor: Factor::Pin { tries }, typed: Some(typed), key }
}

#[test]
fn the_recovery_key_opens_what_the_tpm_does_not() {
    let mut world = World::new();
    world.open("early", touch(None)).unwrap();
    assert_eq!(world.keeper().recovery(), Recovery::None);
    let key = world.keeper().new_recovery_key().unwrap();
    assert_eq!(world.keeper().recovery(), Recovery::Shown);
    let office = world.open("office", pin(3, ONE)).unwrap();
    let vault = world.open("vault", touch(None)).unwrap();
    let stranger = RecoveryKey::new().unwrap().digits();
    assert!(matches!(world.keeper().note(&stranger), Err(SecretError::WrongKey)));
    world.keeper().note(&key).unwrap();
    assert_eq!(world.keeper().recovery(), Recovery::Noted);

    // A locked zone gets a new PIN.
    for _ in 0..3 {
        assert_eq!(world.open("office", pin(3, OTHER)), Err(Cause::WrongPin));
    }
    let mistyped = key.replace(|digit| digit != '-', "7");
    for (typed, cause) in [
        (stranger.as_str(), Cause::WrongRecoveryKey),
        ("123", Cause::BadRecoveryKey),
        (mistyped.as_str(), Cause::BadRecoveryKey),
    ] {
        assert_eq!(world.open("office", recover(3, OTHER, typed)), Err(cause));
    }
    assert_eq!(world.open("office", recover(3, "1", &key)), Err(Cause::BadPin));
    assert_eq!(world.open("early", recover(3, OTHER, &key)), Err(Cause::NoRecovery));
    assert_eq!(world.open("office", pin(3, ONE)), Err(Cause::LockedOut));
    assert_eq!(world.open("office", recover(3, OTHER, &key)), Ok(office));
    assert_eq!(world.open("office", pin(3, OTHER)), Ok(office));
    assert_eq!(world.tries_left("office"), Some(3));

    // The data disk in another machine, whose TPM is taken into use by the way.
    world.machine = Machine::new();
    for (zone, how) in [("office", pin(3, OTHER)), ("vault", touch(None)), ("early", touch(None))] {
        assert_eq!(world.open(zone, how), Err(Cause::TpmCleared));
    }
    assert_eq!(world.open("office", recover(3, ONE, &key)), Ok(office));
    assert_eq!(world.open("office", pin(3, ONE)), Ok(office));
    assert_eq!(world.open("vault", touch(None)), Err(Cause::Damaged));
    let of_touch = How::Recovery { factor: Factor::Touch, typed: None, key: &key };
    assert_eq!(world.open("vault", of_touch), Ok(vault));
    assert_eq!(world.open("vault", How::Alone), Ok(vault));

    // Without a TPM, and with a file that is damaged.
    std::fs::write(world.file("vault.zone"), b"?").unwrap();
    assert_eq!(world.open("vault", touch(None)), Err(Cause::Damaged));
    let store = Store::open(world.folder.path()).unwrap();
    let mut lost = Hardware::new("swtpm:host=127.0.0.1,port=1", store, world.key, Vec::new());
    let (secret, made) = lost.open("vault", of_touch).unwrap();
    assert_eq!((*secret.as_bytes(), made), (vault, true));
}

#[test]
fn a_new_recovery_key_takes_the_place_of_the_old_one_when_it_was_noted() {
    let world = World::new();
    let old = world.keeper().new_recovery_key().unwrap();
    world.keeper().note(&old).unwrap();
    let new = world.keeper().new_recovery_key().unwrap();
    assert_eq!(world.keeper().recovery(), Recovery::Noted);
    let office = world.open("office", touch(None)).unwrap();
    let with = |key| How::Recovery { factor: Factor::Touch, typed: None, key };
    // Until then both are somebody's.
    assert_eq!(world.open("office", with(&old)), Ok(office));
    assert_eq!(world.open("office", with(&new)), Ok(office));
    world.keeper().note(&new).unwrap();
    world.keeper().note(&new).unwrap();
    assert!(matches!(world.keeper().note(&old), Err(SecretError::WrongKey)));
    assert_eq!(world.open("office", touch(None)), Ok(office));
    assert_eq!(world.open("office", with(&old)), Err(Cause::WrongRecoveryKey));
    assert_eq!(world.open("office", with(&new)), Ok(office));
}

#[test]
fn a_user_gives_a_zone_another_pin() {
    let world = World::new();
    let office = world.open("office", pin(3, ONE)).unwrap();
    let to = |typed, new| How::NewPin { factor: Factor::Pin { tries: 3 }, typed: Some(typed), new };
    assert_eq!(world.open("office", to(OTHER, "777777")), Err(Cause::WrongPin));
    assert_eq!(world.open("office", to(ONE, "77")), Err(Cause::BadPin));
    assert_eq!(world.tries_left("office"), Some(2));
    assert_eq!(world.open("office", to(ONE, OTHER)), Ok(office));
    assert_eq!(world.tries_left("office"), Some(3));
    assert_eq!(world.open("office", pin(3, ONE)), Err(Cause::WrongPin));
    assert_eq!(world.open("office", pin(3, OTHER)), Ok(office));
}
