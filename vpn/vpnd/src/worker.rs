//! The loop: one `poll` over the VMM's messages, the guest's kicks, `uplink` and the clock.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use ipc::{Channel, SendError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tunnel::{Config, MAX_ZONE_FRAME, Tunnel, VNET_HEADER, VnetHeader};
use vhost::vhost_user::{BackendReqHandler, Error as VhostError};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF};
use vpn_protocol::{VpndStatus, datagram};

use crate::backend::Backend;
use crate::ports::{Ports, Uplink, ZoneQueue};
use crate::vring::{Memory, Vring};

/// Frames of the guest, or datagrams of `uplink`, worked on before the other side gets its turn.
const BATCH: usize = 64;

/// The least time between two status messages.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The least time between two warnings about the VMM.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Why the loop ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The VMM closed the vhost-user stream.
    MachineGone,
    /// `zoned` closed the status channel.
    ZonedGone,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MachineGone => "the virtual machine monitor is gone",
            Self::ZonedGone => "zoned is gone",
        })
    }
}

/// What became readable or writable.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    vhost: bool,
    uplink: bool,
    receive: bool,
    transmit: bool,
}

/// Everything of one zone's network.
pub(crate) struct Worker {
    start: Instant,
    tunnel: Tunnel,
    backend: Arc<Mutex<Backend>>,
    handler: BackendReqHandler<Mutex<Backend>>,
    /// The stream that `handler` reads, to wait for.
    vhost: UnixStream,
    uplink: Uplink,
    zone: ZoneQueue,
    status: Channel,
    reported: Option<VpndStatus>,
    next_report: Duration,
    /// The guest may have frames in its ring that were not looked at.
    pending: bool,
    malformed: u64,
    next_warning: Duration,
    frame: Vec<u8>,
    datagram: Vec<u8>,
}

impl Worker {
    pub(crate) fn new(
        config: &Config,
        vhost: UnixStream,
        uplink: OwnedFd,
        status: Channel,
    ) -> anyhow::Result<Self> {
        status.set_nonblocking().context("making the status channel non-blocking")?;
        let backend = Arc::new(Mutex::new(Backend::new()));
        let stream = vhost.try_clone().context("duplicating the vhost-user stream")?;
        Ok(Self {
            start: Instant::now(),
            tunnel: Tunnel::new(config, Duration::ZERO)?,
            handler: BackendReqHandler::from_stream(stream, Arc::clone(&backend)),
            backend,
            vhost,
            uplink: Uplink::new(uplink),
            zone: ZoneQueue::new(),
            status,
            reported: None,
            next_report: Duration::ZERO,
            pending: false,
            malformed: 0,
            next_warning: Duration::ZERO,
            frame: vec![0; VNET_HEADER + MAX_ZONE_FRAME],
            // One byte more than a packet may have shows one that is too long.
            datagram: vec![0; datagram::MAX_PACKET + 1],
        })
    }

    /// Serves until a peer process goes away.
    ///
    /// # Errors
    /// A broken vhost-user conversation, a closed uplink, or a failing system call.
    pub(crate) fn run(mut self) -> anyhow::Result<Ended> {
        loop {
            let ready = self.wait().context("waiting for events")?;
            if ready.vhost && self.serve_machine()? == Machine::Gone {
                return Ok(Ended::MachineGone);
            }
            self.work(ready).context("receiving from uplink")?;
            anyhow::ensure!(!self.uplink.closed, "uplink closed the tunnel's datagrams");
            if !self.report()? {
                return Ok(Ended::ZonedGone);
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for the next thing to do.
    fn wait(&mut self) -> rustix::io::Result<Ready> {
        let now = self.now();
        let holds_back = self.uplink.holds_back(now);
        let mut due = self.tunnel.next_timer();
        if let Some(deadline) = self.uplink.deadline() {
            due = due.min(deadline);
        }
        if has_news(self.reported.as_ref(), &self.state(now)) {
            due = due.min(self.next_report);
        }
        let timeout = if self.pending && !holds_back { Duration::ZERO } else { due.saturating_sub(now) };
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let backend = lock(&self.backend);
        let mut uplink_flags = PollFlags::IN;
        uplink_flags.set(PollFlags::OUT, self.uplink.is_waiting());
        let receive = backend.receive.kick_to_poll();
        let transmit = backend.transmit.kick_to_poll().filter(|_| !holds_back);
        // A ring that does not run, or must wait, is represented by a descriptor that is asked nothing.
        let idle = self.vhost.as_fd();
        let flags = |kick: Option<BorrowedFd<'_>>| kick.map_or(PollFlags::empty(), |_| PollFlags::IN);
        let mut fds = [
            PollFd::new(&self.vhost, PollFlags::IN),
            PollFd::new(self.uplink.socket(), uplink_flags),
            PollFd::from_borrowed_fd(receive.unwrap_or(idle), flags(receive)),
            PollFd::from_borrowed_fd(transmit.unwrap_or(idle), flags(transmit)),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error),
        }
        let [vhost, uplink, receive, transmit] = fds.map(|fd| fd.revents());
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok(Ready {
            vhost: vhost.intersects(readable),
            uplink: uplink.intersects(readable),
            receive: receive.contains(PollFlags::IN),
            transmit: transmit.contains(PollFlags::IN),
        })
    }

    /// Answers one message of the VMM.
    fn serve_machine(&mut self) -> anyhow::Result<Machine> {
        match self.handler.handle_request() {
            Ok(()) => {}
            Err(VhostError::Disconnected) => return Ok(Machine::Gone),
            // What the guest's driver put into its registers can cause these; the VMM learns of it where it asked to.
            // Anything else is an error of the VMM, and it may wait for an answer that never comes.
            Err(
                error @ (VhostError::InvalidParam
                | VhostError::FeatureMismatch
                | VhostError::InvalidOperation(_)
                | VhostError::ReqHandlerError(_)),
            ) => self.warn(&error),
            Err(error) => return Err(error).context("serving the virtual machine monitor"),
        }
        // Rings may have started with work in them.
        self.pending = true;
        Ok(Machine::There)
    }

    fn warn(&mut self, error: &VhostError) {
        let now = self.now();
        if now >= self.next_warning {
            self.next_warning = now.saturating_add(WARN_EVERY);
            tracing::warn!(%error, "refused a request of the virtual machine monitor");
        }
    }

    /// Moves packets both ways.
    fn work(&mut self, ready: Ready) -> rustix::io::Result<()> {
        let now = self.now();
        let mut backend = lock(&self.backend);
        let mergeable = backend.has(VIRTIO_NET_F_MRG_RXBUF);
        let guest_checksum = backend.has(VIRTIO_NET_F_GUEST_CSUM);
        let serves = backend.has(VIRTIO_F_VERSION_1);
        let Backend { memory, receive, transmit, .. } = &mut *backend;
        let memory = memory.as_ref().filter(|_| serves);
        if ready.receive {
            receive.acknowledge();
        }
        if ready.transmit {
            transmit.acknowledge();
            self.pending = true;
        }
        let mut ports = Ports {
            uplink: &mut self.uplink,
            zone: &mut self.zone,
            ring: memory.filter(|memory| receive.is_active(memory)).map(|memory| (receive, memory)),
            mergeable,
            guest_checksum,
            now,
        };
        ports.uplink.flush(now);
        ports.flush_zone();
        if now >= self.tunnel.next_timer() {
            self.tunnel.on_timer(now, &mut ports);
        }
        if ready.uplink {
            receive_datagrams(&mut self.tunnel, &mut ports, &mut self.datagram)?;
        }
        if self.pending && !ports.uplink.holds_back(now) {
            self.pending = match memory.filter(|memory| transmit.is_active(memory)) {
                Some(memory) => {
                    let mut out = Outward { tunnel: &mut self.tunnel, frame: &mut self.frame, malformed: 0 };
                    let more = out.frames(transmit, memory, &mut ports);
                    self.malformed = self.malformed.saturating_add(out.malformed);
                    transmit.signal(memory);
                    more
                }
                None => false,
            };
        }
        ports.finish();
        Ok(())
    }

    /// What `zoned` may know.
    fn state(&self, now: Duration) -> VpndStatus {
        let status = self.tunnel.status(now);
        VpndStatus {
            up: status.up,
            handshake_age_s: status.handshake_age.map(|age| age.as_secs()),
            sent_bytes: status.sent_bytes,
            received_bytes: status.received_bytes,
            dropped: status
                .drops
                .total()
                .saturating_add(self.malformed)
                .saturating_add(self.uplink.dropped)
                .saturating_add(self.zone.dropped),
        }
    }

    /// Tells `zoned` what changed; `false` when nobody listens any more.
    fn report(&mut self) -> anyhow::Result<bool> {
        let now = self.now();
        if now < self.next_report {
            return Ok(true);
        }
        let state = self.state(now);
        if !has_news(self.reported.as_ref(), &state) {
            return Ok(true);
        }
        self.next_report = now.saturating_add(STATUS_EVERY);
        match self.status.send(&state, &[]) {
            Ok(()) => {
                self.reported = Some(state);
                Ok(true)
            }
            Err(SendError::WouldBlock) => Ok(true),
            Err(SendError::Closed) => Ok(false),
            Err(error) => Err(error).context("reporting to zoned"),
        }
    }
}

/// Whether the VMM is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    There,
    Gone,
}

/// From the guest's ring into the tunnel.
struct Outward<'a> {
    tunnel: &'a mut Tunnel,
    frame: &'a mut [u8],
    malformed: u64,
}

impl Outward<'_> {
    /// Works on a batch of frames; `true` when there may be more.
    fn frames(&mut self, ring: &mut Vring, memory: &Memory, ports: &mut Ports<'_>) -> bool {
        ring.spare_kicks(memory);
        let mut looked_again = false;
        for _ in 0..BATCH {
            if ports.uplink.holds_back(ports.now) {
                return true;
            }
            let Some(taken) = ring.take(memory, self.frame) else {
                // A second look that finds nothing means a ring that contradicts itself: the next kick may mend it.
                if looked_again || !ring.want_kick(memory) {
                    return false;
                }
                looked_again = true;
                continue;
            };
            looked_again = false;
            let bytes = taken.length.and_then(|length| self.frame.get(..length));
            match bytes.and_then(|bytes| bytes.split_first_chunk::<VNET_HEADER>()) {
                Some((header, frame)) => {
                    self.tunnel.from_zone(&VnetHeader::parse(header), frame, ports.now, ports);
                }
                None => self.malformed = self.malformed.saturating_add(1),
            }
            ring.give_back(memory, taken);
        }
        true
    }
}

/// Takes a batch of datagrams from `uplink`.
fn receive_datagrams(
    tunnel: &mut Tunnel,
    ports: &mut Ports<'_>,
    buffer: &mut [u8],
) -> rustix::io::Result<()> {
    for _ in 0..BATCH {
        let length = match recv(ports.uplink.socket(), &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => {
                ports.uplink.closed = true;
                return Ok(());
            }
            Ok((length, _)) => length,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error),
        };
        match buffer.get(..length).and_then(datagram::parse) {
            Some((peer, payload)) => tunnel.from_peer(peer, payload, ports.now, ports),
            None => ports.uplink.dropped = ports.uplink.dropped.saturating_add(1),
        }
    }
    Ok(())
}

/// Whether `zoned` should hear of `now`: a growing age alone is no news.
fn has_news(reported: Option<&VpndStatus>, now: &VpndStatus) -> bool {
    let Some(then) = reported else { return true };
    let renewed = match (then.handshake_age_s, now.handshake_age_s) {
        (Some(then), Some(now)) => now < then,
        (then, now) => then != now,
    };
    renewed || VpndStatus { handshake_age_s: now.handshake_age_s, ..*then } != *now
}

/// The one thread of this process cannot find the lock poisoned.
fn lock(backend: &Mutex<Backend>) -> MutexGuard<'_, Backend> {
    backend.lock().unwrap_or_else(PoisonError::into_inner)
}
