//! A guest uses its TPM as any other: it seals and unseals, has what the host measured quoted, and finds the certificate of its
//! endorsement key.

use anyhow::{Context, ensure};
use approval::selection;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::second_opening::Guest;
use super::tpm::{ZONE, expected, sha256};
use super::tpm_attacks::{OWNER, command, sized};
use crate::world::{World, ensure_running};

/// What is sealed.
const TEXT: &[u8] = b"only this zone's TPM gives it out";
/// Of the quote.
const NONCE: &[u8] = b"a verifier's question";
/// What the host and the firmware measured.
const REGISTERS: [u8; 5] = [0, 4, 8, 9, 11];
/// Where the EK Credential Profile has a P-256 key's certificate.
const CERTIFICATE: u32 = 0x01C0_000A;

/// Public areas (TPM 2.0 Library, Part 2, 12.2.4) of keys that the TPM makes: attributes, then type and parameters.
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt; AES-128 in CFB mode, P-256.
const STORAGE: (u32, &[u8]) = (0x0003_0472, &[0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10]);
/// The same, but sign; ECDSA with SHA-256.
const ATTESTATION: (u32, &[u8]) = (0x0005_0472, &[0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10]);

pub(super) fn used(world: &mut World) -> anyhow::Result<()> {
    let expected = expected(&world.artifacts)?;
    let machine = world.machine()?;
    ensure_running(machine, ZONE)?;
    let guest = Guest { machine, zone: ZONE };
    seals(&guest).context("seal and unseal")?;
    let values = REGISTERS.iter().map(|register| {
        let value = expected.get(register.to_string().as_str()).context("a register that nobody expects")?;
        let byte =
            |at: usize| Ok(u8::from_str_radix(value.get(2 * at..2 * at + 2).context("a short value")?, 16)?);
        (0..32).map(byte).collect::<anyhow::Result<Vec<u8>>>()
    });
    let values = values.collect::<anyhow::Result<Vec<_>>>()?.concat();
    quotes(&guest, &sha256(&values)).context("quote")?;
    certified(&guest).context("the endorsement key's certificate")
}

/// Makes a primary key of the owner's: its handle, and its point where it has one.
fn primary(guest: &Guest<'_>, (attributes, parameters): (u32, &[u8])) -> anyhow::Result<(u32, Vec<u8>)> {
    let nothing = sized(&[]);
    let point = [nothing.clone(), nothing.clone()].concat();
    let area = [&[0, 0x23, 0, 0x0B][..], &attributes.to_be_bytes(), &nothing, parameters, &point].concat();
    let sensitive = sized(&[nothing.clone(), nothing.clone()].concat());
    let wanted = [&sensitive[..], &sized(&area), &nothing, &[0; 4]].concat();
    let made = guest.succeeds("CreatePrimary", &command(0x131, &[OWNER], &[&[]], &wanted))?;
    let mut reader = Reader(&made);
    let handle = u32::from_be_bytes(*reader.take(4)?.first_chunk().context("a handle")?);
    reader.take(4)?;
    let public = reader.sized()?;
    // Type, hash, attributes, policy (empty) and parameters come first.
    let mut point = Reader(public.get(10 + parameters.len()..).context("a short public area")?);
    let point = [&[4][..], point.sized()?, point.sized()?].concat();
    Ok((handle, point))
}

fn seals(guest: &Guest<'_>) -> anyhow::Result<()> {
    let nothing = sized(&[]);
    let (parent, _) = primary(guest, STORAGE)?;
    // A keyed hash without a scheme is data. fixedTPM, fixedParent, userWithAuth, noDA.
    let area = [&[0, 8, 0, 0x0B][..], &0x452_u32.to_be_bytes(), &nothing, &[0, 0x10], &nothing].concat();
    let sensitive = sized(&[nothing.clone(), sized(TEXT)].concat());
    let wanted = [&sensitive[..], &sized(&area), &nothing, &[0; 4]].concat();
    let made = guest.succeeds("Create", &command(0x153, &[parent], &[&[]], &wanted))?;
    let mut reader = Reader(&made);
    reader.take(4)?;
    let (private, public) = (reader.sized()?, reader.sized()?);
    ensure!(!made.windows(TEXT.len()).any(|bytes| bytes == TEXT), "what is sealed stands in the blob");
    let blob = [sized(private), sized(public)].concat();
    let object = guest.handle("Load", &command(0x157, &[parent], &[&[]], &blob))?;
    let unsealed = guest.succeeds("Unseal", &command(0x15E, &[object], &[&[]], &[]))?;
    let mut reader = Reader(&unsealed);
    reader.take(4)?;
    ensure!(reader.sized()? == TEXT, "something else was unsealed: {unsealed:x?}");
    flush(guest, &[object, parent])
}

/// A verifier who knows the key believes the registers.
fn quotes(guest: &Guest<'_>, registers: &[u8; 32]) -> anyhow::Result<()> {
    let (key, point) = primary(guest, ATTESTATION)?;
    let selected = selection(&REGISTERS);
    let wanted = [&sized(NONCE)[..], &[0, 0x10], &selected].concat();
    let said = guest.succeeds("Quote", &command(0x158, &[key], &[&[]], &wanted))?;
    let mut reader = Reader(&said);
    reader.take(4)?;
    let quoted = reader.sized()?;
    ensure!(reader.take(4)? == [0, 0x18, 0, 0x0B], "it is not signed with ECDSA and SHA-256");
    let mut signature = Vec::new();
    for _ in 0..2 {
        let part = reader.sized()?;
        // Numbers come without zeros in front.
        signature
            .extend(std::iter::repeat_n(0, 32_usize.saturating_sub(part.len())).chain(part.iter().copied()));
    }
    let key_of_guest = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
    ensure!(key_of_guest.verify(quoted, &signature).is_ok(), "the quote's signature is none");
    // TPMS_ATTEST (Part 2, 10.12.8): magic number, type, signer, question, clock and version, registers and their hash.
    let mut quote = Reader(quoted);
    ensure!(quote.take(6)? == [0xFF, b'T', b'C', b'G', 0x80, 0x18], "it is no quote");
    quote.sized()?;
    ensure!(quote.sized()? == NONCE, "it answers another question");
    quote.take(17 + 8)?;
    ensure!(quote.take(selected.len())? == selected, "it is about other registers");
    ensure!(quote.sized()? == registers, "it is not what the host and the firmware measured");
    flush(guest, &[key])
}

fn certified(guest: &Guest<'_>) -> anyhow::Result<()> {
    let public = guest.succeeds("NV_ReadPublic", &command(0x169, &[CERTIFICATE], &[], &[]))?;
    let size = *Reader(&public).sized()?.last_chunk::<2>().context("a short index")?;
    let wanted = [size, [0, 0]].concat();
    let read = guest.succeeds("NV_Read", &command(0x14E, &[CERTIFICATE, CERTIFICATE], &[&[]], &wanted))?;
    let mut reader = Reader(&read);
    reader.take(4)?;
    let certificate = reader.sized()?;
    // A SEQUENCE with a length of two bytes (X.690, 8.1.3), and nothing behind it.
    let [0x30, 0x82, high, low, ..] = certificate else { anyhow::bail!("no certificate: {certificate:x?}") };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    ensure!(length + 4 == certificate.len(), "{} bytes of a certificate with {length}", certificate.len());
    // Whoever has the index's and the owner's authorization does not change it.
    for owner in [CERTIFICATE, OWNER] {
        let content = [&sized(&[0; 8])[..], &[0, 0]].concat();
        let (code, _) = guest.send(&command(0x137, &[owner, CERTIFICATE], &[&[]], &content))?;
        ensure!(code != 0, "a guest writes its certificate");
    }
    Ok(())
}

fn flush(guest: &Guest<'_>, handles: &[u32]) -> anyhow::Result<()> {
    handles.iter().try_for_each(|handle| {
        guest.succeeds("FlushContext", &command(0x165, &[], &[], &handle.to_be_bytes())).map(drop)
    })
}

/// Bytes of a response, in order.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("a short response")?;
        self.0 = rest;
        Ok(taken)
    }

    /// Bytes behind their number.
    fn sized(&mut self) -> anyhow::Result<&'a [u8]> {
        let count = u16::from_be_bytes(*self.take(2)?.first_chunk().context("a short response")?);
        self.take(usize::from(count))
    }
}
