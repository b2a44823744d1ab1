//! QEMU as a child that cannot outlive us.

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::command_line::QemuProgram;
use crate::left;

/// A running QEMU. Dropping it ends it.
///
/// It is started and awaited by a thread of its own, which lives as long as it: the kernel ties the "parent
/// died" signal to the thread that made the child. `setpriv` of util-linux sets that signal, so that even a
/// `SIGKILL` of ours leaves no QEMU behind.
#[derive(Debug)]
pub(crate) struct QemuProcess {
    child: Arc<Mutex<Option<Child>>>,
    ended: Receiver<ExitStatus>,
    status: Option<ExitStatus>,
    thread: Option<JoinHandle<()>>,
}

/// What it writes: console on standard output, complaints on standard error.
pub(crate) type Outputs = Vec<Box<dyn Read + Send>>;

impl QemuProcess {
    pub(crate) fn start(
        program: &QemuProgram,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> io::Result<(Self, Outputs)> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(&program.command)
            .args(arguments)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = Arc::new(Mutex::new(None));
        let (started, outcome) = channel();
        let (end, ended) = channel();
        let shared = Arc::clone(&child);
        let thread = std::thread::Builder::new()
            .name("qemu".to_owned())
            .spawn(move || supervise(command, &shared, &started, &end))?;
        match outcome.recv() {
            Ok(Ok(outputs)) => Ok((Self { child, ended, status: None, thread: Some(thread) }, outputs)),
            Ok(Err(error)) => Err(error),
            Err(_gone) => Err(io::Error::other("the supervising thread ended")),
        }
    }

    /// The process id of QEMU, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id)
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.ended.recv_timeout(left(deadline)).ok();
        }
        self.status
    }
}

fn supervise(
    mut command: Command,
    child: &Mutex<Option<Child>>,
    started: &Sender<io::Result<Outputs>>,
    end: &Sender<ExitStatus>,
) {
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(error) => {
            // Whoever started us waits for this.
            let _waits = started.send(Err(error));
            return;
        }
    };
    let pid = rustix::process::Pid::from_child(&process);
    let mut outputs: Outputs = Vec::new();
    outputs.extend(process.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    outputs.extend(process.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    *child.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    let _waits = started.send(Ok(outputs));
    // Wait without taking the zombie away: as long as it is there, its number cannot mean another process.
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    let id = rustix::process::WaitId::Pid(pid);
    while matches!(rustix::process::waitid(id.clone(), options), Err(rustix::io::Errno::INTR)) {}
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(status) = child.take().and_then(|mut child| child.wait().ok()) {
        // Nobody may want to know.
        let _unheard = end.send(status);
    }
}

impl Drop for QemuProcess {
    fn drop(&mut self) {
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // It may have ended by itself in this moment.
            let _ended = child.kill();
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
