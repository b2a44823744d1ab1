//! Sockets and clock around the state machine.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::OwnedFd;

use anyhow::Context;
use ipc::{Channel, ReceiveError, SendError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use rustix::time::{ClockId, clock_gettime};
use uplink::{Delivery, Duration, Instant, Uplink, frame};
use vpn_protocol::{FromUplink, ToUplink, datagram};

/// The most packets taken from one socket before the others get their turn.
const BATCH: usize = 64;

/// Between two looks at the NIC's carrier.
const CARRIER_INTERVAL: Duration = Duration::from_secs(5);

/// Before the state is offered again to a `zoned` that does not read.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Between two lines about drops.
const DROPS_INTERVAL: Duration = Duration::from_secs(60);

/// The NIC as `init` handed it over.
pub(crate) struct Nic {
    /// `AF_PACKET`, bound to the NIC.
    pub(crate) socket: OwnedFd,
    /// Its MAC address.
    pub(crate) mac: [u8; 6],
    /// The NIC's `carrier` file in sysfs, if `init` gave it: "1" while a cable is in.
    pub(crate) carrier: Option<OwnedFd>,
}

/// The process.
pub(crate) struct Shell {
    uplink: Uplink,
    nic: Option<Nic>,
    control: Channel,
    pairs: BTreeMap<u32, OwnedFd>,
    told: Option<FromUplink>,
    tell_at: Instant,
    look_at: Instant,
    drops: Drops,
    buffer: Vec<u8>,
}

/// Drops at sockets, and when they were last spoken of.
struct Drops {
    /// Datagrams that a tunnel's pair had no room for.
    pair_full: u64,
    /// Frames that the NIC did not take.
    nic_full: u64,
    said: (u64, Instant),
}

impl Shell {
    /// Everything ready to run.
    pub(crate) fn new(control: Channel, nic: Option<Nic>) -> anyhow::Result<Self> {
        control.set_nonblocking().context("set the channel to zoned non-blocking")?;
        let now = now();
        // Without a NIC the state machine is never asked for frames; its address does not matter.
        let mac = nic.as_ref().map_or([2, 0, 0, 0, 0, 1], |nic| nic.mac);
        let mut uplink = Uplink::new(mac, u64::from_ne_bytes(random()?), now)
            .context("the NIC's address is not unicast")?;
        uplink.set_carrier(nic.is_some());
        if nic.is_none() {
            tracing::warn!("no NIC: every tunnel stays down");
        }
        let drops = Drops { pair_full: 0, nic_full: 0, said: (0, now) };
        Ok(Self {
            uplink,
            nic,
            control,
            pairs: BTreeMap::new(),
            told: None,
            tell_at: now,
            look_at: now,
            drops,
            buffer: vec![0; frame::MAX_FRAME.max(datagram::MAX_PACKET)],
        })
    }

    /// Runs until something fails that a restart may mend.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        loop {
            let now = now();
            self.look_at_carrier(now);
            if self.nic.is_some() {
                self.uplink.poll(now);
                while let Some(frame) = self.uplink.next_frame() {
                    if !transmit(self.nic.as_ref(), &mut self.drops, &frame)? {
                        self.uplink.set_carrier(false);
                    }
                }
            }
            self.tell(now)?;
            self.say_drops(now);
            let ready = self.wait(now)?;
            if ready.control {
                self.obey()?;
            }
            if ready.nic {
                self.receive_frames()?;
            }
            for tunnel in ready.tunnels {
                self.receive_packets(tunnel)?;
            }
        }
    }

    fn wait(&mut self, now: Instant) -> anyhow::Result<Ready> {
        let mut deadlines = Vec::new();
        if let Some(nic) = &self.nic {
            deadlines.extend(self.uplink.deadline(now));
            deadlines.extend(nic.carrier.as_ref().map(|_| self.look_at));
        }
        if self.told.is_none() || self.tell_at > now {
            deadlines.push(self.tell_at);
        }
        let timeout = deadlines.into_iter().min().map(|at| timespec(at, now));

        let numbers: Vec<u32> = self.pairs.keys().copied().collect();
        let mut fds = vec![PollFd::new(&self.control, PollFlags::IN)];
        fds.extend(self.pairs.values().map(|pair| PollFd::new(pair, PollFlags::IN)));
        fds.extend(self.nic.iter().map(|nic| PollFd::new(&nic.socket, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for packets"),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let control = ready.next().unwrap_or(false);
        let tunnels =
            numbers.into_iter().zip(&mut ready).filter(|(_, ready)| *ready).map(|(n, _)| n).collect();
        // `zip` asks for a number first, so it took no more flags than there are tunnels.
        let nic = ready.next().unwrap_or(false);
        Ok(Ready { control, tunnels, nic })
    }

    /// Does what `zoned` asks for.
    fn obey(&mut self) -> anyhow::Result<()> {
        for _ in 0..BATCH {
            let (message, descriptors) = match self.control.receive::<ToUplink>() {
                Ok(received) => received,
                Err(ReceiveError::WouldBlock) => return Ok(()),
                Err(ReceiveError::Malformed) => {
                    tracing::error!("zoned sent something that is no message");
                    continue;
                }
                Err(error @ (ReceiveError::Closed | ReceiveError::Io(_))) => {
                    return Err(error).context("receive from zoned");
                }
            };
            match message {
                ToUplink::AddTunnel { tunnel, endpoints } => {
                    let Ok([pair]) = <[OwnedFd; 1]>::try_from(descriptors) else {
                        tracing::error!(tunnel, "a tunnel comes with exactly one socket");
                        continue;
                    };
                    self.pairs.remove(&tunnel);
                    match self.uplink.add_tunnel(tunnel, endpoints, u16::from_ne_bytes(random()?)) {
                        Ok(()) => {
                            self.pairs.insert(tunnel, pair);
                        }
                        Err(error) => tracing::error!(tunnel, %error, "tunnel is not carried"),
                    }
                }
                ToUplink::RemoveTunnel { tunnel } => self.forget(tunnel),
            }
        }
        Ok(())
    }

    fn forget(&mut self, tunnel: u32) {
        self.uplink.remove_tunnel(tunnel);
        self.pairs.remove(&tunnel);
    }

    fn receive_frames(&mut self) -> anyhow::Result<()> {
        let Some(nic) = &self.nic else {
            return Ok(());
        };
        for _ in 0..BATCH {
            // TRUNC: the length is the frame's own, also when it does not fit.
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let length = match recv(&nic.socket, self.buffer.as_mut_slice(), flags) {
                Ok((_, length)) => length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::NETDOWN) => {
                    self.uplink.set_carrier(false);
                    return Ok(());
                }
                Err(error) => return Err(error).context("receive from the NIC"),
            };
            if nic.carrier.is_none() {
                self.uplink.set_carrier(true);
            }
            let Some(frame) = self.buffer.get(..length) else {
                continue;
            };
            if let Some(delivery) = self.uplink.receive(now(), frame)
                && let Some(pair) = self.pairs.get(&delivery.tunnel)
                && !deliver(pair, &delivery)
            {
                self.drops.pair_full = self.drops.pair_full.wrapping_add(1);
            }
        }
        Ok(())
    }

    fn receive_packets(&mut self, tunnel: u32) -> anyhow::Result<()> {
        let Some(pair) = self.pairs.get(&tunnel) else {
            return Ok(());
        };
        let now = now();
        for _ in 0..BATCH {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            match recv(pair, self.buffer.as_mut_slice(), flags) {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                // The `vpnd` is gone (or sent nothing at all, which no packet may be).
                Ok((_, 0)) | Err(_) => {
                    self.forget(tunnel);
                    return Ok(());
                }
                Ok((_, length)) => {
                    // A packet that does not fit the buffer is none: an empty one is counted as malformed.
                    let packet = self.buffer.get(..length).unwrap_or_default();
                    if let Some(frame) = self.uplink.send(now, tunnel, packet)
                        && !transmit(self.nic.as_ref(), &mut self.drops, frame)?
                    {
                        self.uplink.set_carrier(false);
                    }
                }
            }
        }
        Ok(())
    }

    fn look_at_carrier(&mut self, now: Instant) {
        let Some(file) = self.nic.as_ref().and_then(|nic| nic.carrier.as_ref()) else {
            return;
        };
        if now < self.look_at {
            return;
        }
        self.look_at = now + CARRIER_INTERVAL;
        let mut text = [0_u8; 1];
        // The file cannot be read while the NIC is down.
        self.uplink.set_carrier(rustix::io::pread(file, &mut text, 0).is_ok() && text == *b"1");
    }

    /// Tells `zoned` the state if it is not what it was told last.
    fn tell(&mut self, now: Instant) -> anyhow::Result<()> {
        if now < self.tell_at {
            return Ok(());
        }
        let state = self.uplink.state();
        if self.told.as_ref() == Some(&state) {
            return Ok(());
        }
        match self.control.send(&state, &[]) {
            Ok(()) => {
                let tunnels = state.tunnels.len();
                tracing::info!(carrier = state.carrier, address = ?state.address, tunnels, "state changed");
                self.told = Some(state);
            }
            Err(SendError::WouldBlock) => self.tell_at = now + TELL_AGAIN,
            Err(
                error @ (SendError::TooLarge
                | SendError::TooManyDescriptors(_)
                | SendError::Closed
                | SendError::Io(_)),
            ) => return Err(error).context("tell zoned the state"),
        }
        Ok(())
    }

    fn say_drops(&mut self, now: Instant) {
        let counters = self.uplink.counters();
        let Drops { pair_full, nic_full, said } = self.drops;
        let sum = [
            counters.foreign,
            counters.malformed,
            counters.unsendable,
            counters.overflowed,
            counters.refused,
            pair_full,
            nic_full,
        ]
        .into_iter()
        .fold(0, u64::wrapping_add);
        if sum != said.0 && now >= said.1 + DROPS_INTERVAL {
            tracing::warn!(?counters, pair_full, nic_full, "datagrams were dropped");
            self.drops.said = (sum, now);
        }
    }
}

struct Ready {
    control: bool,
    nic: bool,
    tunnels: Vec<u32>,
}

/// Puts a frame on the wire; `false` when the NIC is down.
fn transmit(nic: Option<&Nic>, drops: &mut Drops, frame: &[u8]) -> anyhow::Result<bool> {
    let Some(nic) = nic else {
        return Ok(true);
    };
    loop {
        match send(&nic.socket, frame, SendFlags::DONTWAIT) {
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::MSGSIZE) => {
                drops.nic_full = drops.nic_full.wrapping_add(1);
                return Ok(true);
            }
            Err(Errno::NETDOWN) => return Ok(false),
            Err(error) => return Err(error).context("send to the NIC"),
        }
    }
}

/// Hands a datagram to its `vpnd`; `false` when that has no room or is gone (`poll` will say so).
fn deliver(pair: &OwnedFd, delivery: &Delivery<'_>) -> bool {
    let index = [delivery.endpoint];
    let parts = [IoSlice::new(&index), IoSlice::new(delivery.payload)];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(pair, &parts, &mut SendAncillaryBuffer::default(), flags).is_ok()
}

/// Time that also passes while the machine sleeps: leases do not wait for us.
fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    Instant::from_micros(time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000))
}

/// The pause until `at`, rounded up so that the deadline has passed when it ends.
fn timespec(at: Instant, now: Instant) -> Timespec {
    let micros = at.total_micros().saturating_sub(now.total_micros()).max(0).saturating_add(1);
    Timespec { tv_sec: micros / 1_000_000, tv_nsec: (micros % 1_000_000) * 1000 }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let read = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .context("random numbers")?;
    anyhow::ensure!(read == N, "{read} random bytes instead of {N}");
    Ok(bytes)
}
