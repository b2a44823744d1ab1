//! After the firmware nobody opens what a zone's TPM keeps, not even who knows the zone's authorization: the register that the
//! firmware capped is not the one that was approved.

use anyhow::{Context, ensure};
use approval::{
    Approval, ApprovalKey, Approvals, BEFORE_GUEST, FIRMWARE, Policy, extended, selection, sha256,
    template_purpose,
};
use harness::Machine;

use super::tpm::{CAP, measured_firmware};
use super::tpm_attacks::{KEPT, OWNER, command, sized};
use crate::artifacts::Artifacts;
use crate::cpio;
use crate::disk::build_keys;
use crate::world::SOON;

/// Bytes of a response's header.
const HEADER: usize = 10;
/// `TPM_RC_VALUE` and `TPM_RC_POLICY_FAIL`, less which parameter, handle or session they are about.
const VALUE: u32 = 0x84;
const POLICY_FAIL: u32 = 0x9D;
const WHICH: u32 = 0xF40;

/// A guest at its TPM.
pub(super) struct Guest<'a> {
    pub(super) machine: &'a Machine,
    pub(super) zone: &'a str,
}

impl Guest<'_> {
    /// One command; the response's code and what is behind the header.
    pub(super) fn send(&self, command: &[u8]) -> anyhow::Result<(u32, Vec<u8>)> {
        let word: String = command.iter().map(|byte| format!("{byte:02x}")).collect();
        let said =
            self.machine.zones().run_check(self.zone, "tpm", &["raw", &word], self.machine.within(SOON))?;
        let response = said.output.trim();
        let bytes = (0..response.len() / 2)
            .map(|at| response.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()))
            .collect::<Option<Vec<u8>>>();
        let bytes = bytes.filter(|bytes| said.passed && bytes.len() >= HEADER);
        let bytes = bytes.with_context(|| format!("no response: {}", said.output))?;
        let code = bytes.iter().skip(6).take(4).fold(0, |code, byte| code << 8 | u32::from(*byte));
        Ok((code, bytes.get(HEADER..).unwrap_or_default().to_vec()))
    }

    /// A command that succeeds; what is behind the header.
    pub(super) fn succeeds(&self, what: &str, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (code, rest) = self.send(command)?;
        ensure!(code == 0, "{what}: {code:#x}");
        Ok(rest)
    }

    /// The same; the handle that it gives.
    pub(super) fn handle(&self, what: &str, command: &[u8]) -> anyhow::Result<u32> {
        let rest = self.succeeds(what, command)?;
        Ok(u32::from_be_bytes(*rest.first_chunk().with_context(|| format!("{what}: no handle"))?))
    }

    /// A policy session: neither salted nor bound.
    fn session(&self) -> anyhow::Result<u32> {
        const NULL: u32 = 0x4000_0007;
        let parameters = [&sized(&[7; 16])[..], &[0, 0], &[1], &[0, 0x10], &[0, 0x0B]].concat();
        self.handle("StartAuthSession", &command(0x176, &[NULL, NULL], &[], &parameters))
    }

    /// Has the registers, as they are, judged by an approval: the code of PolicyAuthorize.
    fn judge(
        &self,
        session: u32,
        registers: &[u8],
        key: &ApprovalKey,
        approval: &Approval,
    ) -> anyhow::Result<u32> {
        let pcrs = [&[0, 0][..], &selection(registers)].concat();
        self.succeeds("PolicyPCR", &command(0x17F, &[session], &[], &pcrs))?;
        let public = [&[0, 0][..], &sized(&key.public_area()), &OWNER.to_be_bytes()].concat();
        let loaded = self.handle("LoadExternal", &command(0x167, &[], &[], &public))?;
        let (r, s) = &approval.signature;
        let signature = [&sized(&approval.hash())[..], &[0, 0x18, 0, 0x0B], &sized(r), &sized(s)].concat();
        let ticket = self.succeeds("VerifySignature", &command(0x177, &[loaded], &[], &signature))?;
        self.succeeds("FlushContext", &command(0x165, &[], &[], &loaded.to_be_bytes()))?;
        let reference = sized(&approval.reference());
        let parts = [&sized(&approval.policy)[..], &reference, &sized(&key.name()), &ticket].concat();
        Ok(self.send(&command(0x16A, &[session], &[], &parts))?.0)
    }

    /// Reads what the TPM keeps with this session and authorization: the code.
    fn read(&self, session: u32, authorization: &[u8]) -> anyhow::Result<u32> {
        self.succeeds("PolicyPassword", &command(0x18C, &[session], &[], &[]))?;
        let session = [&session.to_be_bytes()[..], &[0, 0, 0], &sized(authorization)].concat();
        let length = u32::try_from(session.len())?.to_be_bytes();
        let handles = [KEPT.to_be_bytes(), KEPT.to_be_bytes()].concat();
        let body = [&handles[..], &length, &session, &[0, 32, 0, 0]].concat();
        let size = u32::try_from(HEADER + body.len())?.to_be_bytes();
        let whole = [&[0x80, 2][..], &size, &0x14E_u32.to_be_bytes(), &body].concat();
        Ok(self.send(&whole)?.0)
    }
}

/// Tries it in a zone of the template `micro`.
pub(super) fn refused(
    artifacts: &Artifacts,
    machine: &Machine,
    zone: &str,
    authorization: &[u8],
) -> anyhow::Result<()> {
    let entries = cpio::read(&std::fs::read(artifacts.host_segment())?)?;
    let entry = entries.into_iter().find(|entry| entry.path == "etc/bulkhead/approvals");
    let Approvals { key, approved } =
        Approvals::decode(&entry.context("the image has no approvals")?.content)?;
    let of_firmware = approved.into_iter().find(|approval| approval.purpose == FIRMWARE);
    let of_firmware = of_firmware.context("the firmware is not approved")?;
    let path = artifacts.file("templates-test/micro").join(template::APPROVAL);
    let of_template = Approval::decode(&std::fs::read(path)?)?;
    let of_template = Approval { purpose: template_purpose("micro"), ..of_template };

    let guest = Guest { machine, zone };
    let open = |of_firmware: &Approval| -> anyhow::Result<[u32; 3]> {
        let session = guest.session()?;
        let firmware = guest.judge(session, &[0, 11], &key, of_firmware)?;
        let template = guest.judge(session, &[4, 8, 9], &key, &of_template)?;
        let read = guest.read(session, authorization)?;
        // A session ends with what it was good for.
        if read != 0 {
            guest.succeeds("FlushContext", &command(0x165, &[], &[], &session.to_be_bytes()))?;
        }
        Ok([firmware, template, read])
    };
    let codes = open(&of_firmware)?;
    let kinds = codes.map(|code| code & !WHICH);
    ensure!(kinds == [VALUE, VALUE, POLICY_FAIL], "what the TPM keeps is given out again: {codes:#x?}");
    // The registers are all that stood in the way: the image's maker could approve them as they are now.
    let now = [(0, measured_firmware(artifacts)?), (11, extended(&[0; 32], &sha256(&[CAP])))];
    let policy = Policy::default().pcrs(&now).digest();
    let of_now = build_keys(artifacts)?.approve.approve(FIRMWARE, BEFORE_GUEST, 1, policy)?;
    let codes = open(&of_now)?;
    ensure!(codes == [0; 3], "with another approval: {codes:#x?}");
    Ok(())
}
