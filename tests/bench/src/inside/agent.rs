//! The zone's agent as each contestant brings it, and its Hello.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use ipc::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vsock::VsockListener;
use zone_protocol::agent::{Decoder, FromAgent, PORT};
use zone_protocol::vmm::Connected;

/// Where the agent's connection comes from.
pub(super) enum Source {
    /// Our VMM sends it.
    Channel(Channel),
    /// The kernel accepts it.
    Vsock(VsockListener),
}

impl Source {
    /// A listener for a peer's guest, made before the guest.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listener =
            VsockListener::bind_with_cid_port(vsock::VMADDR_CID_ANY, PORT).context("listen on vsock")?;
        Ok(Self::Vsock(listener))
    }

    /// Waits for the agent's first message. Returns the connection: an agent that loses it makes another one.
    ///
    /// # Errors
    /// The deadline passed, the process ended, or the agent said something else.
    pub(super) fn hello(&self, child: &Child, deadline: Instant) -> anyhow::Result<OwnedFd> {
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context("watch the process")?;
        let descriptor = match self {
            Self::Channel(channel) => channel.as_fd(),
            Self::Vsock(listener) => listener.as_fd(),
        };
        wait(descriptor, process.as_fd(), deadline).context("no agent connected")?;
        let stream = match self {
            Self::Channel(channel) => {
                let (connected, descriptors) = channel.receive::<Connected>().context("agent channel")?;
                ensure!(connected.port == PORT, "the guest connected to port {}", connected.port);
                descriptors.into_iter().next().context("a connection came without its socket")?
            }
            Self::Vsock(listener) => OwnedFd::from(listener.accept().context("accept")?.0),
        };
        let mut stream = File::from(stream);
        let mut decoder = Decoder::default();
        let mut bytes = [0; 4096];
        loop {
            wait(stream.as_fd(), process.as_fd(), deadline).context("the agent says nothing")?;
            let count = stream.read(&mut bytes).context("read from the agent")?;
            ensure!(count > 0, "the agent closed its connection");
            decoder.push(bytes.get(..count).unwrap_or_default());
            match decoder.next_message::<FromAgent>()? {
                Some(FromAgent::Hello(_)) => return Ok(stream.into()),
                Some(other) => bail!("the agent's first message is {other:?}"),
                None => {}
            }
        }
    }
}

/// Waits until something can be read.
fn wait(descriptor: BorrowedFd<'_>, process: BorrowedFd<'_>, deadline: Instant) -> anyhow::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "the deadline passed");
        let mut descriptors = [
            PollFd::from_borrowed_fd(descriptor, PollFlags::IN),
            PollFd::from_borrowed_fd(process, PollFlags::IN),
        ];
        match poll(&mut descriptors, Some(&Timespec::try_from(left)?)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let [readable, ended] = &descriptors;
        if !readable.revents().is_empty() {
            return Ok(());
        }
        ensure!(ended.revents().is_empty(), "the process ended");
    }
}
