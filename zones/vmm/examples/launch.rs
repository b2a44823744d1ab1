//! Stands in for `init` and `zoned` when a VMM is tried by hand: opens the files, passes the descriptors,
//! prints the guest's console and the events with the time since the start. A line "kill", "pause" or "resume" on
//! its input becomes that command, "tpm" brings another TPM; "leave" closes the channel of events, as if `zoned` had died.
//!
//! `launch VMM FIRMWARE KERNEL INITRD RECORD MEMORY_MIB VCPUS COMMAND_LINE [tpm] [SERIAL=DISK[:ro]]...`; RECORD is the file of a
//! login record, or `-` for the one of a zone that has no vTPM; the TPM never answers.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use handover::record::{Header, LONGEST, encode};
use ipc::{Channel, ReceiveError};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use zone_protocol::vmm::{self, Config, Connected, Disk, Event, LoginRecord};

/// Descriptors wait here until the numbers from 3 on are free.
const PARKED: i32 = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vmm, firmware, kernel, initrd, record, memory, vcpus, command_line, disks @ ..] =
        arguments.as_slice()
    else {
        bail!("launch VMM FIRMWARE KERNEL INITRD RECORD MEMORY_MIB VCPUS COMMAND_LINE [SERIAL=DISK[:ro]]...");
    };
    let mut passed: Vec<(String, OwnedFd)> = Vec::new();
    let mut pass = |name: &str, descriptor: OwnedFd| -> anyhow::Result<()> {
        passed.push((name.to_owned(), fcntl_dupfd_cloexec(&descriptor, PARKED)?));
        Ok(())
    };
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm").context("/dev/kvm")?;
    pass("kvm", kvm.into())?;
    pass("firmware", File::open(firmware).context("firmware")?.into())?;
    pass("kernel", File::open(kernel).context("kernel")?.into())?;
    pass("initrd", File::open(initrd).context("initrd")?.into())?;
    let (tpm, disks) = match disks {
        [first, disks @ ..] if first == "tpm" => (true, disks),
        disks => (false, disks),
    };
    let mut config = Config {
        zone: "launched".to_owned(),
        memory_mib: memory.parse()?,
        vcpus: vcpus.parse()?,
        command_line: command_line.clone(),
        disks: Vec::new(),
        network: None,
        record: None,
    };
    let record = match record.as_str() {
        "-" => without_vtpm(),
        path => std::fs::read(path).context("record")?,
    };
    if !tpm {
        config.record = Some(LoginRecord(record.clone()));
    }
    for (number, disk) in disks.iter().enumerate() {
        let (serial, disk) = disk.split_once('=').context("a disk is SERIAL=PATH")?;
        let (path, read_only) = disk.strip_suffix(":ro").map_or((disk, false), |path| (path, true));
        let file = OpenOptions::new().read(true).write(!read_only).open(path).context("disk")?;
        pass(&format!("disk{number}"), file.into())?;
        config.disks.push(Disk { read_only, serial: serial.to_owned(), late: false });
    }
    let mut file = File::from(memfd_create("config", MemfdFlags::CLOEXEC)?);
    file.write_all(&postcard::to_stdvec(&config)?)?;
    pass("config", file.into())?;
    let (events, of_vmm) = Channel::pair()?;
    pass("events", of_vmm.into_descriptor())?;
    let (agent, of_vmm) = Channel::pair()?;
    pass("agent", of_vmm.into_descriptor())?;
    let (console, of_vmm) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    pass("console", of_vmm)?;
    run(vmm, passed, [events, agent], File::from(console), record)
}

/// The record of a zone that has no vTPM.
fn without_vtpm() -> Vec<u8> {
    let mut record = [0; LONGEST];
    let header = Header { no_vtpm_yet: true, nonce: [1; 32], identity: [2; 32] };
    let length = encode(&header, &[], &mut record).expect("it has no credentials");
    record[..length].to_vec()
}

/// The two ends of a TPM's data channel.
fn tpm() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    Ok((near.into(), far.into()))
}

/// Starts the VMM and reports what it says.
fn run(
    program: &str,
    passed: Vec<(String, OwnedFd)>,
    channels: [Channel; 2],
    mut console: File,
    record: Vec<u8>,
) -> anyhow::Result<()> {
    let [events, agent] = channels
        .map(Channel::into_descriptor)
        .map(|channel| Channel::from_descriptor(fcntl_dupfd_cloexec(&channel, PARKED).expect("a duplicate")));
    let mut console_parked = File::from(fcntl_dupfd_cloexec(&console, PARKED)?);
    std::mem::swap(&mut console, &mut console_parked);
    drop(console_parked);
    let mut inherited = Vec::new();
    let mut names = Vec::new();
    for (name, parked) in &passed {
        let next = i32::try_from(names.len())? + 3;
        let descriptor = fcntl_dupfd_cloexec(parked, next)?;
        // Whoever started this left descriptors open: the VMM inherits them, too, and takes them by these names.
        names.extend((next..descriptor.as_raw_fd()).map(|number| format!("not-ours-{number}")));
        names.push(name.clone());
        fcntl_setfd(&descriptor, FdFlags::empty())?;
        inherited.push(descriptor);
    }
    let start = Instant::now();
    let mut child = Command::new(program).env(jail::inherited::VARIABLE, names.join(",")).spawn()?;
    drop(inherited);
    drop(passed);
    let printer = std::thread::spawn(move || print_lines(&mut console, start));
    let greeter = std::thread::spawn(move || {
        while let Ok((connected, descriptors)) = agent.receive::<Connected>() {
            say(start, &format!("{connected:?}"));
            std::thread::spawn(move || {
                let mut stream =
                    std::os::unix::net::UnixStream::from(descriptors.into_iter().next().expect("a socket"));
                let mut text = String::new();
                let result =
                    stream.write_all(b"host says hello\n").and_then(|()| stream.read_to_string(&mut text));
                say(start, &format!("agent stream: {result:?} {text:?}"));
            });
        }
    });
    let events = Arc::new(events);
    let of_input = Arc::clone(&events);
    std::thread::spawn(move || obey(&of_input, &record));
    loop {
        match events.receive::<Event>() {
            Ok((event, _)) => say(start, &format!("{event:?}")),
            Err(ReceiveError::Closed) => break,
            Err(error) => return Err(error).context("events"),
        }
    }
    let status = child.wait()?;
    say(start, &status.to_string());
    let _ended = (printer.join(), greeter.join());
    Ok(())
}

/// Does what the lines of the input say.
fn obey(events: &Channel, record: &[u8]) {
    let mut far_ends = Vec::new();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "kill" => events.send(&vmm::Command::Kill, &[]).expect("the VMM listens"),
            "pause" => events.send(&vmm::Command::Pause, &[]).expect("the VMM listens"),
            "resume" => events.send(&vmm::Command::Resume, &[]).expect("the VMM listens"),
            "tpm" => {
                let (near, far) = tpm().expect("a pair of sockets");
                far_ends.push(far);
                let (pipe, into) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
                rustix::io::write(&into, record).expect("a record fits");
                events.send(&vmm::Command::Tpm, &[near.as_fd(), pipe.as_fd()]).expect("the VMM listens");
            }
            "leave" => rustix::net::shutdown(events, rustix::net::Shutdown::Both).expect("a socket"),
            _ => {}
        }
    }
}

/// Prints one line with the time.
fn say(start: Instant, what: &str) {
    // Nobody reads any more: the VMM's end is worth waiting for all the same.
    let _closed = writeln!(std::io::stdout(), "[{:8.3}] {what}", start.elapsed().as_secs_f64());
}

/// Prints the console line by line.
fn print_lines(console: &mut File, start: Instant) {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = console.read(&mut buffer) {
        for byte in &buffer[..count] {
            if *byte == b'\n' {
                say(start, &format!("| {}", String::from_utf8_lossy(&line).trim_end()));
                line.clear();
            } else {
                line.push(*byte);
            }
        }
    }
}
