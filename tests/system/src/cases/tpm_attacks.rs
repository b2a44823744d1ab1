//! A guest does to its TPM whatever root can: its zone's disk still opens, and nobody reads what the TPM keeps; commands that are
//! none harm nobody.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use control_api::Phase;
use harness::Machine;

use crate::plan::Dice;
use crate::world::{SOON, START, World, ensure_running, ensure_stopped, file, process_of, service_of, zone};

const ZONE: &str = "vault";
/// Must not notice.
const OTHER: &str = "research";

const MINE: &str = "/home/mine";
const TEXT: &str = "what a guest wrote before it went for its TPM";

/// Hierarchies (TPM 2.0 Library, Part 2, 7.4).
pub(super) const OWNER: u32 = 0x4000_0001;
const LOCKOUT: u32 = 0x4000_000A;
const ENDORSEMENT: u32 = 0x4000_000B;
const PLATFORM: u32 = 0x4000_000C;
/// What the platform made there for the host: the hash of the start's record, and what the zone's TPM keeps. Spelled out: a test
/// that asks the code what is right finds everything right.
const RECORD: u32 = 0x0140_0001;
pub(super) const KEPT: u32 = 0x0140_0002;
/// Where a guest makes indices of its own.
const ITS_OWN: u32 = 0x0180_0000;

/// What the guest's passwords become.
const PASSWORD: &[u8] = b"mine";

/// Responses that are awaited.
const SUCCESS: u32 = 0;
/// `TPM_RC_RETRY`, `TPM_RC_LOCKOUT`.
const RETRY: u32 = 0x922;
const LOCKED_OUT: u32 = 0x921;

/// Attributes of indices that the guest makes: OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD, and perhaps NO_DA.
const ATTRIBUTES: u32 = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18;
const NO_DA: u32 = 1 << 25;

/// A command with its handles, each authorized by the password in its place.
pub(super) fn command(code: u32, handles: &[u32], passwords: &[&[u8]], parameters: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut authorizations = Vec::new();
    for password in passwords {
        // TPM_RS_PW, no nonce, no attributes.
        authorizations.extend([0x40, 0, 0, 9, 0, 0, 0, 0, u8::try_from(password.len()).unwrap_or(0)]);
        authorizations.extend(*password);
    }
    let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
    if !passwords.is_empty() {
        body.extend(length(authorizations.len()));
        body.extend(authorizations);
    }
    body.extend(parameters);
    let tag = [0x80, if passwords.is_empty() { 1 } else { 2 }];
    [&tag[..], &length(10 + body.len()), &code.to_be_bytes(), &body].concat()
}

pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes()[..], bytes].concat()
}

/// `TPM2_NV_DefineSpace` by the owner.
fn define(index: u32, attributes: u32, size: u16, owner: &[u8]) -> Vec<u8> {
    let public =
        [&index.to_be_bytes()[..], &[0, 0x0B], &attributes.to_be_bytes(), &[0, 0], &size.to_be_bytes()]
            .concat();
    command(0x12A, &[OWNER], &[owner], &[sized(b"right"), sized(&public)].concat())
}

/// `TPM2_NV_Read` of some bytes.
fn read(by: u32, index: u32, password: &[u8], size: u8) -> Vec<u8> {
    command(0x14E, &[by, index], &[password], &[0, size, 0, 0])
}

/// Sends commands from inside; their response codes. A TPM may ask for a command to be sent again (the first use of an object
/// whose wrong passwords are counted).
fn send(machine: &Machine, commands: &[Vec<u8>]) -> anyhow::Result<Vec<u32>> {
    let mut codes = send_once(machine, commands)?;
    for (code, command) in codes.iter_mut().zip(commands).filter(|(code, _)| **code == RETRY) {
        *code = *send_once(machine, std::slice::from_ref(command))?.first().context("one response")?;
    }
    Ok(codes)
}

fn send_once(machine: &Machine, commands: &[Vec<u8>]) -> anyhow::Result<Vec<u32>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut codes = Vec::new();
    // A check's arguments have a limit.
    for some in commands.chunks(32) {
        let words: Vec<String> = some.iter().map(|command| hex(command)).collect();
        let arguments: Vec<&str> = ["raw"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let result = machine.zones().run_check(ZONE, "tpm", &arguments, machine.within(SOON))?;
        ensure!(result.passed, "the guest cannot speak to its TPM: {}", result.output);
        for line in result.output.lines() {
            let code = line.get(12..20).and_then(|code| u32::from_str_radix(code, 16).ok());
            codes.push(code.with_context(|| format!("no response: {line}"))?);
        }
    }
    ensure!(codes.len() == commands.len(), "{} responses to {} commands", codes.len(), commands.len());
    Ok(codes)
}

fn succeed(machine: &Machine, what: &str, commands: &[Vec<u8>]) -> anyhow::Result<()> {
    let codes = send(machine, commands)?;
    ensure!(codes.iter().all(|code| *code == SUCCESS), "{what}: {codes:x?}");
    Ok(())
}

fn fail(machine: &Machine, what: &str, commands: &[Vec<u8>]) -> anyhow::Result<()> {
    let codes = send(machine, commands)?;
    ensure!(codes.iter().all(|code| *code != SUCCESS), "a guest may {what}: {codes:x?}");
    Ok(())
}

/// What is the platform's, with every authorization that a guest can think of.
fn reach_for_the_platform(machine: &Machine, owner: &[u8]) -> anyhow::Result<()> {
    for password in [&b""[..], PASSWORD, &[0; 32]] {
        fail(
            machine,
            "act as the platform",
            &[
                // Clear, ChangePPS, ChangeEPS, HierarchyChangeAuth, ClearControl.
                command(0x126, &[PLATFORM], &[password], &[]),
                command(0x125, &[PLATFORM], &[password], &[]),
                command(0x124, &[PLATFORM], &[password], &[]),
                command(0x129, &[PLATFORM], &[password], &sized(PASSWORD)),
                command(0x127, &[PLATFORM], &[password], &[0]),
                // HierarchyControl: switch it on again.
                command(0x121, &[PLATFORM], &[password], &[&PLATFORM.to_be_bytes()[..], &[1]].concat()),
            ],
        )?;
    }
    for index in [RECORD, KEPT] {
        fail(
            machine,
            "change what the host keeps in its TPM",
            &[
                // NV_UndefineSpace, NV_Write, NV_WriteLock.
                command(0x122, &[PLATFORM, index], &[b""], &[]),
                command(0x122, &[OWNER, index], &[owner], &[]),
                command(0x137, &[OWNER, index], &[owner], &[&sized(&[0; 8])[..], &[0, 0]].concat()),
                command(0x137, &[index, index], &[b""], &[&sized(&[0; 8])[..], &[0, 0]].concat()),
                command(0x138, &[OWNER, index], &[owner], &[]),
                define(index, ATTRIBUTES, 8, owner),
            ],
        )?;
    }
    fail(
        machine,
        "read what its TPM keeps",
        &[
            read(OWNER, KEPT, owner, 96),
            read(KEPT, KEPT, b"", 96),
            read(PLATFORM, KEPT, b"", 96),
            // NV_Certify needs no secret of the index's either: it is refused as a read is.
            command(0x131, &[PLATFORM], &[b""], &[0, 0, 0, 0]),
        ],
    )
}

/// Everything that is the guest's, spoilt.
fn destroy(machine: &Machine) -> anyhow::Result<()> {
    reach_for_the_platform(machine, b"")?;
    // Clear takes keys, indices and passwords of all hierarchies but the platform's.
    succeed(machine, "clear", &[command(0x126, &[LOCKOUT], &[b""], &[])])?;
    succeed(
        machine,
        "set passwords",
        &[OWNER, ENDORSEMENT, LOCKOUT]
            .map(|hierarchy| command(0x129, &[hierarchy], &[b""], &sized(PASSWORD))),
    )?;
    reach_for_the_platform(machine, PASSWORD)?;

    // Fill what can be kept, with large indices and then with small ones.
    for (from, size) in [(0, 1024), (256, 8)] {
        let mut full = false;
        for batch in 0..8 {
            let indices = (0..32).map(|place| ITS_OWN + from + batch * 32 + place);
            let defines: Vec<_> =
                indices.map(|index| define(index, ATTRIBUTES | NO_DA, size, PASSWORD)).collect();
            if send(machine, &defines)?.last() != Some(&SUCCESS) {
                full = true;
                break;
            }
        }
        ensure!(full, "the TPM takes any number of indices of {size} bytes");
    }
    // One of them makes room for an index whose wrong passwords are counted.
    let counted = ITS_OWN + 1000;
    succeed(
        machine,
        "make room",
        &[command(0x122, &[OWNER, ITS_OWN], &[PASSWORD], &[]), define(counted, ATTRIBUTES, 8, PASSWORD)],
    )?;
    let written = command(0x137, &[counted, counted], &[b"right"], &[&sized(&[0; 8])[..], &[0, 0]].concat());
    succeed(machine, "write", &[written])?;
    let guesses = vec![read(counted, counted, b"wrong", 8); 40];
    let Some(last) = send(machine, &guesses)?.pop() else { bail!("no guess was answered") };
    ensure!(last == LOCKED_OUT, "forty wrong passwords lock nothing: {last:#x}");

    // Sessions until there is no more room for one: hmac, not salted, not bound.
    let parameters = [&sized(&[7; 16])[..], &[0, 0], &[0], &[0, 0x10], &[0, 0x0B]].concat();
    let null = 0x4000_0007;
    let sessions = vec![command(0x176, &[null, null], &[], &parameters); 70];
    ensure!(send(machine, &sessions)?.last() != Some(&SUCCESS), "the TPM takes any number of sessions");
    // Every register that it can reach.
    let extend =
        |register| command(0x182, &[register], &[b""], &[&[0, 0, 0, 1, 0, 0x0B][..], &[0xE1; 32]].concat());
    succeed(machine, "extend registers", &(0..16).map(extend).collect::<Vec<_>>())?;
    // The last word is one that a suspended machine says, so that the next start finds a state to go on with.
    succeed(machine, "shut down", &[command(0x145, &[], &[], &[0, 1])])
}

pub(super) fn destroyed(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    for name in [ZONE, OTHER] {
        ensure_running(machine, name)?;
    }
    file(machine, ZONE, &["put", MINE, TEXT])?;
    destroy(machine).context("before a reset")?;
    super::tpm::reboot(machine)?;
    ensure!(file(machine, ZONE, &["get", MINE])? == TEXT, "the guest lost what it wrote, at a reset");
    // Its TPM is as useful as the guest left it: cleared with the password that it set, it is spoilt anew.
    succeed(machine, "clear again", &[command(0x126, &[LOCKOUT], &[PASSWORD], &[])])?;
    destroy(machine).context("before a start")?;
    ensure_stopped(machine, ZONE)?;
    ensure_running(machine, ZONE).context("after all that")?;
    ensure!(file(machine, ZONE, &["get", MINE])? == TEXT, "the guest lost what it wrote, at a start");
    ensure_running(machine, OTHER)?;
    Ok(())
}

/// Batches of malformed commands in a sample, and how long a soak goes on.
const BATCHES: u32 = 8;
const SOAK: Duration = Duration::from_mins(10);
/// Lines that all of it may add to the host's log: a guest cannot flood it.
const MOST_LINES: usize = 100;

/// Something like a command. The guest's kernel refuses some by itself: those whose size is more than there is.
fn malformed(dice: &mut Dice) -> Vec<u8> {
    // Every code that the specification knows, and some that it does not.
    let code =
        if dice.pick(&[true, true, true, false]) { 0x11F + dice.number() % 0x7A } else { dice.number() };
    let length = dice.number() % dice.pick(&[8, 64, 512, 3000]);
    let mut body: Vec<u8> = (0..length).map(|_| u8::try_from(dice.number() % 256).unwrap_or(0)).collect();
    if dice.pick(&[true, false]) {
        // A handle that there may be, and a password session.
        let handle = dice.pick(&[OWNER, LOCKOUT, ENDORSEMENT, PLATFORM, RECORD, KEPT, 0, 11, 0x8000_0000]);
        let session = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        body = [&handle.to_be_bytes()[..], &session, &body].concat();
    }
    let whole = u32::try_from(10 + body.len()).unwrap_or(u32::MAX);
    let size = dice.pick(&[whole, whole, whole, whole, 0, 9, 10, whole - 1, whole + 1, u32::MAX]);
    let tag = dice.pick(&[0x8001_u16, 0x8002, 0x8002, 0x8003, 0, 0xFFFF]);
    let mut bytes = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes(), &body].concat();
    if dice.pick(&[false, false, false, true]) {
        let rest = usize::try_from(dice.number()).unwrap_or(0) % (bytes.len() + 1);
        bytes.truncate(rest.max(1));
    }
    bytes
}

pub(super) fn survives(world: &mut World) -> anyhow::Result<()> {
    let (mut dice, seed, soak) = (world.plan.dice(), world.plan.seed, world.plan.soak);
    let machine = world.machine()?;
    for name in [ZONE, OTHER] {
        ensure_running(machine, name)?;
    }
    let others = || -> anyhow::Result<[i32; 4]> {
        let (vmm, tpm) = (process_of(machine, "vmm", OTHER)?, process_of(machine, "swtpm", OTHER)?);
        Ok([vmm, tpm, service_of(machine, "keeper")?, service_of(machine, "zoned")?])
    };
    let (before, place, began) = (others()?, machine.serial().end(), Instant::now());
    let mut sent = 0;
    for batch in 0.. {
        if if soak { began.elapsed() >= SOAK } else { batch >= BATCHES } {
            break;
        }
        let commands: Vec<String> = (0..32)
            .map(|_| malformed(&mut dice).iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let arguments: Vec<&str> = ["raw"].into_iter().chain(commands.iter().map(String::as_str)).collect();
        let said = machine.zones().run_check(ZONE, "tpm", &arguments, machine.within(START))?;
        ensure!(said.passed, "batch {batch} of seed {seed}: {}", said.output);
        sent += commands.len();
        // It is a TPM all the same.
        let shown = machine.zones().run_check(ZONE, "tpm", &[], machine.within(SOON))?;
        ensure!(shown.passed, "after batch {batch} of seed {seed}: {}", shown.output);
    }
    ensure!(others()? == before, "a process beside the zone was started again");
    for name in [ZONE, OTHER] {
        ensure!(zone(machine, name)?.state.phase == Phase::Running, "{name} does not run any more");
    }
    let lines = machine.serial().since(place).lines().count();
    ensure!(lines <= MOST_LINES, "{sent} malformed commands wrote {lines} lines into the log");
    // Whatever they did to the zone's TPM, the next start is as always.
    ensure_stopped(machine, ZONE)?;
    ensure_running(machine, ZONE)?;
    world.remark(format!("{sent} commands, seed {seed}"));
    Ok(())
}
