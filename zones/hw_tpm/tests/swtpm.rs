//! The machine's TPM, played by swtpm of the build's tools: what is sealed opens where it should and nowhere else.

#![expect(clippy::unwrap_used, reason = "a test, all of it")]

#[path = "swtpm/hardware.rs"]
mod hardware;

use approval::{Approval, ApprovalKey, Approver, BEFORE_GUEST, RUNNING, host_policy};
use hardware::Hardware;
use hw_tpm::{
    LOCKOUT, LockoutError, Machine, NewPin, OpenTpmError, Pin, Point, ProvisionError, Sealed, Secret, Tpm,
    Tries, UnsealError, set_lockout,
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tss_esapi::constants::PropertyTag;
use tss_esapi::handles::{AuthHandle, NvIndexTpmHandle, PcrHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Provision;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Auth, Digest, DigestValues};

const PURPOSE: &str = "bulkhead host";
const LIMIT: u32 = 4;
/// PCRs 11 to 13 of a host that measured nothing.
const FRESH: [[u8; 32]; 3] = [[0; 32]; 3];

/// Somebody else who speaks to a TPM.
fn stranger(hardware: &Hardware) -> tss_esapi::Context {
    tss_esapi::Context::new(hardware.device().parse().unwrap()).unwrap()
}

/// The image's maker.
struct Maker(Approver);

impl Maker {
    fn new() -> Self {
        Self(Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap())
    }

    fn key(&self) -> ApprovalKey {
        self.0.key().unwrap()
    }

    fn approves(&self, values: &[[u8; 32]; 3]) -> Approval {
        self.0.approve(PURPOSE, RUNNING, 1, host_policy(values)).unwrap()
    }
}

/// A machine in use, with a secret of a zone.
struct World {
    hardware: Hardware,
    maker: Maker,
    machine: Machine,
}

impl World {
    fn new() -> Self {
        let (hardware, maker) = (Hardware::new(), Maker::new());
        let (mut tpm, machine, owner) = Tpm::provision(&hardware.device(), maker.key(), PURPOSE).unwrap();
        tpm.own(&owner).unwrap();
        tpm.shut_down().unwrap();
        Self { hardware, maker, machine }
    }

    fn tpm(&self) -> Tpm {
        Tpm::open(&self.hardware.device(), &self.machine).unwrap()
    }

    fn owner(&self, tpm: &mut Tpm) -> Secret {
        tpm.unseal(&self.machine.owner, self.maker.key(), &[self.maker.approves(&FRESH)], None).unwrap()
    }

    fn seal(&self, secret: u8, pin: Option<(u8, u16)>) -> Sealed {
        let mut tpm = self.tpm();
        let owner = self.owner(&mut tpm);
        let pin = pin.map(|(pin, place)| (Pin([pin; 32]), place));
        let new = pin.as_ref().map(|(pin, place)| (NewPin { pin, place: *place, limit: LIMIT }, &owner));
        tpm.seal(&Secret::new([secret; 32]), self.maker.key(), PURPOSE, new).unwrap()
    }

    fn unseal(&self, sealed: &Sealed, pin: Option<u8>) -> Result<u8, UnsealError> {
        let approvals = [self.maker.approves(&FRESH)];
        let pin = pin.map(|pin| Pin([pin; 32]));
        let secret = self.tpm().unseal(sealed, self.maker.key(), &approvals, pin.as_ref())?;
        Ok(secret.as_bytes()[0])
    }

    fn tries(&self, sealed: &Sealed) -> Tries {
        let mut tpm = self.tpm();
        let owner = self.owner(&mut tpm);
        tpm.tries(sealed, &owner).unwrap().unwrap()
    }
}

fn measure(context: &mut tss_esapi::Context, pcr: PcrHandle, digest: [u8; 32]) {
    let mut values = DigestValues::new();
    values.set(HashingAlgorithm::Sha256, Digest::try_from(digest.to_vec()).unwrap());
    context
        .execute_with_session(Some(AuthSession::Password), |context| context.pcr_extend(pcr, values))
        .unwrap();
}

fn extended(old: [u8; 32], digest: [u8; 32]) -> [u8; 32] {
    approval::extended(&old, &digest)
}

#[test]
fn a_secret_opens_in_approved_states_only_and_survives_an_update() {
    let mut world = World::new();
    let sealed = world.seal(7, None);
    assert_eq!(world.unseal(&sealed, None).unwrap(), 7);
    world.hardware.power_cut();
    assert_eq!(world.unseal(&sealed, None).unwrap(), 7);

    measure(&mut stranger(&world.hardware), PcrHandle::Pcr11, [9; 32]);
    assert!(matches!(world.unseal(&sealed, None), Err(UnsealError::NotApproved)));
    // The same approval under another's signature, and one that is signed for another purpose.
    let updated = [extended([0; 32], [9; 32]), [0; 32], [0; 32]];
    let unseal = |approval: Approval| world.tpm().unseal(&sealed, world.maker.key(), &[approval], None);
    assert!(matches!(unseal(Maker::new().approves(&updated)), Err(UnsealError::BadApproval)));
    let mut other = world.maker.approves(&updated);
    other.purpose = "something else".to_owned();
    assert!(matches!(unseal(other), Err(UnsealError::NotApproved)));
    let state = host_policy(&updated);
    assert!(matches!(
        unseal(world.maker.0.approve(PURPOSE, BEFORE_GUEST, 1, state).unwrap()),
        Err(UnsealError::NotApproved)
    ));
    // What is signed for another phase, under this one's name.
    let other = world.maker.0.approve(PURPOSE, BEFORE_GUEST, 1, state).unwrap();
    let other = Approval { phase: RUNNING.to_owned(), ..other };
    assert!(matches!(unseal(other), Err(UnsealError::BadApproval)));
    // The update's own approval, of whatever epoch.
    assert_eq!(
        unseal(world.maker.0.approve(PURPOSE, RUNNING, 9, state).unwrap()).unwrap().as_bytes(),
        &[7; 32]
    );
    assert_eq!(unseal(world.maker.approves(&updated)).unwrap().as_bytes(), &[7; 32]);
    // A key that the seal does not name does not help, whoever holds it.
    let stranger = Maker::new();
    let own = stranger.approves(&updated);
    assert!(matches!(
        world.tpm().unseal(&sealed, stranger.key(), &[own], None),
        Err(UnsealError::BadApproval)
    ));
}

#[test]
fn wrong_pins_are_counted_for_each_zone_and_across_power_cuts() {
    let mut world = World::new();
    let (office, research) = (world.seal(1, Some((11, 1))), world.seal(2, Some((22, 2))));
    assert_eq!(world.tries(&office), Tries { wrong: 0, limit: LIMIT });
    assert!(matches!(world.unseal(&office, None), Err(UnsealError::PinNeeded)));
    for wrong in 1..LIMIT {
        assert!(matches!(world.unseal(&office, Some(99)), Err(UnsealError::WrongPin)));
        world.hardware.power_cut();
        assert_eq!(world.tries(&office), Tries { wrong, limit: LIMIT });
    }
    // A right one, after which the power is cut, costs nothing.
    assert_eq!(world.unseal(&office, Some(11)).unwrap(), 1);
    world.hardware.power_cut();
    assert_eq!(world.tries(&office), Tries { wrong: 0, limit: LIMIT });

    for _ in 0..LIMIT {
        assert!(matches!(world.unseal(&office, Some(22)), Err(UnsealError::WrongPin)));
    }
    for pin in [11, 99] {
        assert!(matches!(world.unseal(&office, Some(pin)), Err(UnsealError::LockedOut)));
    }
    world.hardware.power_cut();
    assert!(matches!(world.unseal(&office, Some(11)), Err(UnsealError::LockedOut)));
    assert_eq!(world.tries(&office), Tries { wrong: LIMIT, limit: LIMIT });
    // The other zone has nothing to do with it.
    assert_eq!(world.tries(&research), Tries { wrong: 0, limit: LIMIT });
    assert_eq!(world.unseal(&research, Some(22)).unwrap(), 2);
}

#[test]
fn a_forgotten_pin_opens_nothing() {
    let world = World::new();
    let sealed = world.seal(1, Some((11, 1)));
    let mut tpm = world.tpm();
    let owner = world.owner(&mut tpm);
    tpm.forget(&sealed, &owner).unwrap();
    tpm.forget(&sealed, &owner).unwrap();
    drop(tpm);
    assert!(matches!(world.unseal(&sealed, Some(11)), Err(UnsealError::PinGone)));
}

#[test]
fn nobody_but_the_owner_makes_a_pin_anew() {
    let world = World::new();
    let sealed = world.seal(1, Some((11, 1)));
    let index = NvIndexTpmHandle::new(sealed.pin.as_ref().unwrap().index).unwrap();
    let mut stranger = stranger(&world.hardware);
    let handle = stranger.tr_from_tpm_public(TpmHandle::NvIndex(index)).unwrap();
    stranger
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_undefine_space(Provision::Owner, handle.into())
        })
        .unwrap_err();
    drop(stranger);
    assert_eq!(world.unseal(&sealed, Some(11)).unwrap(), 1);
}

#[test]
fn another_tpm_opens_nothing_and_altered_bytes_are_named() {
    let (world, other) = (World::new(), World::new());
    let sealed = world.seal(1, None);
    assert!(matches!(Tpm::open(&other.hardware.device(), &world.machine), Err(OpenTpmError::Foreign)));
    assert!(matches!(Tpm::open(&Hardware::new().device(), &world.machine), Err(OpenTpmError::Cleared)));
    let approvals = [world.maker.approves(&FRESH)];
    let foreign = other.tpm().unseal(&sealed, world.maker.key(), &approvals, None);
    assert!(matches!(foreign, Err(UnsealError::NotOurs)), "{foreign:?}");
    for place in 0..sealed.private.len() {
        let mut altered = sealed.clone();
        altered.private[place] ^= 1;
        let opened = world.unseal(&altered, None);
        assert!(matches!(opened, Err(UnsealError::NotOurs)), "byte {place}: {opened:?}");
    }
}

#[test]
fn a_tpm_that_is_missing_or_owned_is_said_to_be() {
    let nowhere = Tpm::open("swtpm:host=127.0.0.1,port=1", &World::new().machine);
    assert!(matches!(nowhere, Err(OpenTpmError::Missing(_))));

    let hardware = Hardware::new();
    let mut stranger = stranger(&hardware);
    stranger
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.hierarchy_change_auth(AuthHandle::Owner, Auth::try_from(b"theirs".to_vec()).unwrap())
        })
        .unwrap();
    drop(stranger);
    let refused = Tpm::provision(&hardware.device(), Maker::new().key(), PURPOSE).err();
    assert!(matches!(refused, Some(ProvisionError::Owned)), "{refused:?}");
}

#[test]
fn taking_into_use_is_finished_after_a_power_cut() {
    let (mut hardware, maker) = (Hardware::new(), Maker::new());
    // The power is cut between the two steps; before that nothing is remembered, and it begins anew.
    let (_, first, _) = Tpm::provision(&hardware.device(), maker.key(), PURPOSE).unwrap();
    hardware.power_cut();
    let (_, machine, _) = Tpm::provision(&hardware.device(), maker.key(), PURPOSE).unwrap();
    assert_eq!(first.storage_key, machine.storage_key);
    hardware.power_cut();
    let world = World { hardware, maker, machine };
    for _ in 0..2 {
        let mut tpm = world.tpm();
        let owner = world.owner(&mut tpm);
        tpm.own(&owner).unwrap();
    }
    let sealed = world.seal(1, Some((11, 1)));
    assert_eq!(sealed.pin.as_ref().unwrap().place(), Some(1));
    assert_eq!(world.unseal(&sealed, Some(11)).unwrap(), 1);
    let stranger = Secret::new([1; 32]);
    assert!(matches!(world.tpm().own(&stranger), Err(ProvisionError::Owned)));
}

#[test]
fn the_authority_signs_in_approved_states_only() {
    let mut world = World::new();
    world.hardware.power_cut();
    let Point { x, y } = Point::of(&world.machine.authority).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4][..], &x, &y].concat());
    let message = b"a certificate";
    let sign = |approvals: &[Approval]| {
        world.tpm().sign(
            &world.machine.authority,
            world.maker.key(),
            approvals,
            &approval::sha256(&[message]),
        )
    };
    let (r, s) = sign(&[world.maker.approves(&FRESH)]).unwrap();
    public.verify(message, &[r, s].concat()).unwrap();
    public.verify(b"another one", &[r, s].concat()).unwrap_err();
    assert!(matches!(sign(&[]), Err(UnsealError::NotApproved)));
    assert!(matches!(sign(&[Maker::new().approves(&FRESH)]), Err(UnsealError::BadApproval)));
    let mut key = world.machine.authority.clone();
    key.private[40] ^= 1;
    let approvals = [world.maker.approves(&FRESH)];
    let signed = world.tpm().sign(&key, world.maker.key(), &approvals, &[0; 32]);
    assert!(matches!(signed, Err(UnsealError::NotOurs)));
}

#[test]
fn epochs_go_up_alone_and_are_the_owners() {
    let mut world = World::new();
    let mut tpm = world.tpm();
    assert_eq!(tpm.epochs().unwrap(), []);
    let owner = world.owner(&mut tpm);
    for (tag, epoch) in [(1, 5), (2, 3), (1, 7), (2, 1)] {
        tpm.raise_epoch([tag; 8], epoch, &owner).unwrap();
    }
    drop(tpm);
    world.hardware.power_cut();
    let noted = vec![([1; 8], 7), ([2; 8], 3)];
    assert_eq!(world.tpm().epochs().unwrap(), noted);
    // Nobody else writes it.
    assert!(world.tpm().raise_epoch([1; 8], 9, &Secret::new([0; 32])).is_err());
    let mut stranger = stranger(&world.hardware);
    let index = NvIndexTpmHandle::new(0x0180_A000).unwrap();
    let index = stranger.tr_from_tpm_public(TpmHandle::NvIndex(index)).unwrap();
    let undefined = stranger.execute_with_session(Some(AuthSession::Password), |context| {
        context.nv_undefine_space(Provision::Owner, index.into())
    });
    assert!(undefined.is_err());
    drop(stranger);
    assert_eq!(world.tpm().epochs().unwrap(), noted);
    // It has room for so many.
    let mut tpm = world.tpm();
    for tag in 3..=32 {
        tpm.raise_epoch([tag; 8], 2, &owner).unwrap();
    }
    assert!(tpm.raise_epoch([33; 8], 2, &owner).is_err());
    tpm.raise_epoch([32; 8], 3, &owner).unwrap();
    assert_eq!(tpm.epochs().unwrap().len(), 32);
}

/// What a TPM says of its lockout.
fn lockout(hardware: &Hardware) -> [u32; 3] {
    [PropertyTag::MaxAuthFail, PropertyTag::LockoutInterval, PropertyTag::LockoutRecovery]
        .map(|property| stranger(hardware).get_tpm_property(property).unwrap().unwrap())
}

#[test]
fn the_lockout_is_set_where_it_is_nobody_elses() {
    let mut hardware = Hardware::new();
    let before = lockout(&hardware);
    assert_ne!(before, LOCKOUT);
    set_lockout(&hardware.device()).unwrap();
    assert_eq!(lockout(&hardware), LOCKOUT);
    // For good, and again.
    hardware.power_cut();
    assert_eq!(lockout(&hardware), LOCKOUT);
    set_lockout(&hardware.device()).unwrap();

    let hardware = Hardware::new();
    let mut other = stranger(&hardware);
    other
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.hierarchy_change_auth(AuthHandle::Lockout, Auth::try_from(vec![9; 8]).unwrap())
        })
        .unwrap();
    drop(other);
    let refused = set_lockout(&hardware.device()).unwrap_err();
    assert!(refused.to_string().starts_with("is another system's: the TPM answered 0x"), "{refused}");
    assert_eq!(lockout(&hardware), before);
    assert!(matches!(set_lockout("mssim:"), Err(LockoutError::Words(_))));
    assert!(matches!(set_lockout("swtpm:host=127.0.0.1,port=1"), Err(LockoutError::Device(_))));
    // It is no reason not to take the TPM into use.
    Tpm::provision(&hardware.device(), Maker::new().key(), PURPOSE).unwrap();
}
