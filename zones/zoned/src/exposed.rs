//! What a hostile guest and a hostile client of the Varlink socket reach, for `tests/fuzz`. The program itself
//! is `main.rs`.
#![expect(dead_code, reason = "the program uses the rest of these modules")]

mod agent_link;
mod console;
mod server;

use std::os::fd::OwnedFd;
use std::time::Instant;

use control_api::Status;
use control_api::wire::{CallError, Method, Reply};
use rustix::event::PollFlags;

use zone_protocol::agent::{Answer, Ask};

/// The Varlink server with a daemon behind it that knows no zone.
#[derive(Debug)]
pub struct Server(server::Server);

impl Server {
    /// Takes the listening socket.
    ///
    /// # Errors
    /// What the system call reports.
    pub fn new(listener: OwnedFd) -> std::io::Result<Self> {
        Ok(Self(server::Server::new(listener)?))
    }

    /// One turn of the daemon's loop: takes one new client, reads and answers all of them, tells the monitors.
    /// How many calls reached the daemon.
    pub fn turn(&mut self, status: &Status, now: Instant) -> usize {
        self.0.accept();
        let all: Vec<_> = self.0.interests().map(|(id, _, flags)| (id, flags)).collect();
        let mut waiting = self.0.backlog();
        waiting.extend(all.iter().map(|(id, _)| *id));
        let mut calls = 0;
        for id in waiting {
            let flags =
                all.iter().find(|(other, _)| *other == id).map_or(PollFlags::empty(), |(_, flags)| *flags);
            let Some(method) = self.0.ready(id, flags, now) else { continue };
            calls += 1;
            let reply = match method {
                Method::Status => Reply::Status(status.clone()),
                Method::Monitor => continue,
                Method::Start(zone)
                | Method::Open { zone, .. }
                | Method::Recover { zone, .. }
                | Method::ChangePin { zone, .. }
                | Method::Lock(zone)
                | Method::Stop(zone)
                | Method::RunCheck { zone, .. } => Reply::Error(CallError::UnknownZone(zone)),
                Method::NewRecoveryKey
                | Method::LockScreen
                | Method::UnlockScreen(_)
                | Method::ChangeScreenPin { .. }
                | Method::RecoverScreen { .. }
                | Method::NoteRecoveryKey(_)
                | Method::Audit { .. }
                | Method::Kill(_)
                | Method::Restart(_)
                | Method::Pause(_)
                | Method::Resume(_)
                | Method::PowerOff
                | Method::GetInfo
                | Method::GetInterfaceDescription(_) => Reply::Done,
            };
            self.0.reply(id, &reply, now);
        }
        self.0.changed();
        self.0.publish(status, now);
        calls
    }
}

/// A connection of an agent.
#[derive(Debug)]
pub struct AgentLink(agent_link::AgentLink);

impl AgentLink {
    /// Takes the stream.
    ///
    /// # Errors
    /// The sentence that the log would show.
    pub fn new(stream: OwnedFd) -> Result<Self, String> {
        agent_link::AgentLink::new(stream).map(Self).map_err(|error| error.to_string())
    }

    /// Reads once; what a user could see of it: the version of a Hello, or the text of an answer.
    ///
    /// # Errors
    /// The connection is over.
    pub fn read(&mut self) -> Result<Vec<String>, String> {
        let said = self.0.read().map_err(|error| error.to_string())?;
        let text = |said| match said {
            agent_link::Said::Hello(version) => version,
            agent_link::Said::Answer(_, Answer::Check { output, .. }) => output,
            agent_link::Said::Answer(_, Answer::Refused(reason)) => reason,
            agent_link::Said::Answer(_, Answer::Status(_) | Answer::ShuttingDown | Answer::Synced) => {
                String::new()
            }
        };
        Ok(said.into_iter().map(text).collect())
    }

    /// Asks for the agent's state.
    ///
    /// # Errors
    /// The connection is over.
    pub fn ask(&mut self) -> Result<u32, String> {
        self.0.ask(Ask::Status).map_err(|error| error.to_string())
    }
}

/// Reads all of a guest's console from a pipe that does not block; the line that would explain its end.
pub fn last_words(pipe: OwnedFd) -> Option<String> {
    let mut console = console::Console::new(pipe);
    while console.read() == console::Flow::Open {
        if rustix::io::ioctl_fionread(&console).is_ok_and(|left| left == 0) {
            break;
        }
    }
    console.last_words()
}
