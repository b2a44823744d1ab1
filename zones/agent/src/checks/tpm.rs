//! The check `tpm`: what the zone's TPM holds, by raw commands on its device.
//!
//! Without arguments it prints the PCRs that the host measures into, two that nobody does, and random numbers;
//! `extend N` extends PCR N with a fixed digest and prints what it then holds; `raw HEX...` sends commands as they are, one after the
//! other, and prints each response: whoever is root here can do that anyway.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

/// The device. The kernel lets one process at a time have it.
const DEVICE: &str = "/dev/tpm0";
/// Firmware, kernel, command line, initrd; the one that the firmware caps, and a free one.
const SHOWN: [u8; 6] = [0, 4, 8, 9, 11, 12];
/// Bytes of a response's header; the longest response to what is asked here.
const HEADER: usize = 10;
const LONGEST: usize = 4096;
/// `TPM_ALG_SHA256`.
const SHA256: [u8; 2] = [0x00, 0x0B];

/// Runs it.
pub(super) fn run(arguments: &[String]) -> Result<(bool, String), String> {
    let outcome = match arguments {
        [] => show(),
        [word, register] if word == "extend" => match register.parse() {
            Ok(register) if register < 24 => extend(register),
            Ok(_) | Err(_) => return Err(format!("{register:?} is no PCR")),
        },
        [word, commands @ ..] if word == "raw" && !commands.is_empty() => raw(commands),
        _ => return Err("usage: tpm [extend PCR | raw HEX...]".to_owned()),
    };
    Ok(outcome.map_or_else(|error| (false, format!("{error}\n")), |text| (true, text)))
}

fn show() -> io::Result<String> {
    let mut tpm = open()?;
    let mut text = String::new();
    for register in SHOWN {
        let value = read(&mut tpm, register)?;
        writeln!(text, "pcr {register} {}", hex(&value)).map_err(io::Error::other)?;
    }
    let random = transact(&mut tpm, &command(false, 0x17B, &[0, 16]))?;
    let random = random.get(HEADER + 2..).unwrap_or_default();
    writeln!(text, "random {}", hex(random)).map_err(io::Error::other)?;
    Ok(text)
}

fn extend(register: u8) -> io::Result<String> {
    let mut tpm = open()?;
    let session = [&[0, 0, 0, 9, 0x40, 0, 0, 9][..], &[0; 5]].concat();
    let digests = [&[0, 0, 0, 1][..], &SHA256, &[0xB5; 32]].concat();
    let body = [&[0, 0, 0, register][..], &session, &digests].concat();
    transact(&mut tpm, &command(true, 0x182, &body))?;
    Ok(format!("pcr {register} {}\n", hex(&read(&mut tpm, register)?)))
}

fn raw(commands: &[String]) -> io::Result<String> {
    let mut tpm = open()?;
    let mut text = String::new();
    for command in commands {
        let bytes =
            unhex(command).ok_or_else(|| io::Error::other(format!("{command:?} is no hexadecimal")))?;
        // The kernel refuses some by itself; the next one is sent all the same.
        let line = match tpm.write_all(&bytes).and_then(|()| answer(&mut tpm)) {
            Ok(response) => hex(&response),
            Err(error) => format!("! {error}"),
        };
        writeln!(text, "{line}").map_err(io::Error::other)?;
    }
    Ok(text)
}

/// `TPM2_PCR_Read` of one register: its value is the end of the response.
fn read(tpm: &mut File, register: u8) -> io::Result<Vec<u8>> {
    let mut selected = [0; 3];
    if let Some(byte) = selected.get_mut(usize::from(register / 8)) {
        *byte = 1 << (register % 8);
    }
    let body = [&[0, 0, 0, 1][..], &SHA256, &[3], &selected].concat();
    let response = transact(tpm, &command(false, 0x17E, &body))?;
    let value = response.len().checked_sub(32).and_then(|start| response.get(start..));
    value.map(<[u8]>::to_vec).ok_or_else(|| io::Error::other("no such PCR"))
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

fn command(sessions: bool, code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    [&[0x80, if sessions { 2 } else { 1 }][..], &length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

fn answer(tpm: &mut File) -> io::Result<Vec<u8>> {
    let mut response = vec![0; LONGEST];
    let count = tpm.read(&mut response)?;
    response.truncate(count);
    Ok(response)
}

/// One command and its response, which must be a success.
fn transact(tpm: &mut File, command: &[u8]) -> io::Result<Vec<u8>> {
    tpm.write_all(command)?;
    let response = answer(tpm)?;
    match response.get(6..HEADER) {
        Some([0, 0, 0, 0]) => Ok(response),
        Some(code) => Err(io::Error::other(format!("the TPM answered {}", hex(code)))),
        None => Err(io::Error::other("the TPM's answer has no header")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    });
    pairs.collect()
}
