//! One WireGuard peer: boringtun's `Tunn` and what it lacks.
//!
//! Added here: padding to 16 bytes, refusal of keys that carried too many messages or are too old by the clock of
//! the caller, a bound on queued packets that is counted, and a fresh start of handshakes that gave up. The keys
//! themselves stay inside boringtun; a session is known here by the two indices on its messages.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use crate::bytes::{le32, le64};
use crate::config::{Limits, PeerConfig};
use crate::counters::{Drops, count};

const HANDSHAKE_INITIATION: u8 = 1;
const HANDSHAKE_RESPONSE: u8 = 2;
const DATA: u8 = 4;

/// Payload is padded to a multiple of this (WireGuard white paper, section 5.4.6).
const PADDING: usize = 16;

/// Packets that boringtun keeps while a handshake runs (its `MAX_QUEUE_DEPTH`).
const MAX_QUEUED: usize = 256;

/// Sessions that boringtun keeps (its `N_SESSIONS`).
const MAX_SESSIONS: usize = 8;

/// A session as seen from its messages.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// Index in messages that we receive.
    local: u32,
    /// Index in messages that we send.
    remote: u32,
    /// When its handshake completed.
    established: Duration,
    /// The peer has shown that it holds the keys.
    confirmed: bool,
}

/// What a call may use besides the packet.
pub(crate) struct Call<'a> {
    pub(crate) now: Duration,
    /// Room for a message to the peer.
    pub(crate) out: &'a mut [u8],
    pub(crate) drops: &'a mut Drops,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A message of the protocol itself, or nothing valid (counted).
    Nothing,
    /// An inner packet of this length lies at the start of the buffer.
    Packet(usize),
}

/// One peer.
pub(crate) struct Peer {
    tunn: Tunn,
    limiter: Arc<RateLimiter>,
    sessions: Vec<Session>,
    limits: Limits,
    keepalive: bool,
    started: bool,
    /// Packets that wait inside boringtun for a session.
    queued: usize,
    /// boringtun may hold packets that can be sent once a session is there.
    flush: bool,
    /// Stands in for the peer's address where boringtun binds cookies to it.
    origin: IpAddr,
}

impl Peer {
    pub(crate) fn new(
        private_key: [u8; 32],
        config: &PeerConfig,
        index: u8,
        session: u32,
        limits: Limits,
    ) -> Self {
        let private_key = StaticSecret::from(private_key);
        let limiter =
            Arc::new(RateLimiter::new(&PublicKey::from(&private_key), limits.handshakes_per_second));
        Self {
            tunn: Tunn::new(
                private_key,
                PublicKey::from(config.public_key),
                None,
                config.keepalive,
                // boringtun counts sessions in the low 8 of 32 bits.
                session & 0x00ff_ffff,
                Some(Arc::clone(&limiter)),
            ),
            limiter,
            sessions: Vec::with_capacity(MAX_SESSIONS),
            limits,
            keepalive: config.keepalive.is_some(),
            started: false,
            queued: 0,
            flush: false,
            origin: Ipv4Addr::new(127, 0, 0, index).into(),
        }
    }

    /// Encrypts the packet in the first `length` bytes of `packet`. Bytes behind it are overwritten by padding.
    pub(crate) fn seal(
        &mut self,
        packet: &mut [u8],
        length: usize,
        mtu: usize,
        call: Call<'_>,
        mut send: impl FnMut(&[u8]),
    ) {
        let Call { now, out, drops } = call;
        if self.queued >= MAX_QUEUED {
            count(&mut drops.no_session);
            return;
        }
        let padded = length.next_multiple_of(PADDING).min(mtu.max(length));
        let Some(padding) = packet.get_mut(length..padded) else { return count(&mut drops.malformed) };
        padding.fill(0);
        let Some(payload) = packet.get(..padded) else { return count(&mut drops.malformed) };
        match self.tunn.encapsulate(payload, out) {
            TunnResult::WriteToNetwork(message) if message.first() == Some(&DATA) => {
                let message: &[u8] = message;
                let verdict = judge(&self.sessions, &self.limits, message, now);
                if verdict.usable {
                    send(message);
                } else {
                    count(&mut drops.no_session);
                }
                if verdict.worn {
                    self.initiate(out, send);
                }
            }
            TunnResult::WriteToNetwork(handshake) => {
                self.queued = self.queued.saturating_add(1);
                self.flush = true;
                send(handshake);
            }
            TunnResult::Done => {
                self.queued = self.queued.saturating_add(1);
                self.flush = true;
            }
            TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                count(&mut drops.no_session);
            }
        }
    }

    /// Takes a datagram from the peer's endpoint. An inner packet is written to the start of `inner`.
    pub(crate) fn open(
        &mut self,
        datagram: &[u8],
        inner: &mut [u8],
        call: Call<'_>,
        mut send: impl FnMut(&[u8]),
    ) -> Opened {
        let Call { now, out, drops } = call;
        let kind = datagram.first().copied().unwrap_or_default();
        // boringtun panics when the buffer is smaller than the message.
        if datagram.is_empty()
            || datagram.len() > inner.len()
            || (kind == DATA && !self.accepts(datagram, now))
        {
            count(&mut drops.unauthentic);
            return Opened::Nothing;
        }
        let opened = match self.tunn.decapsulate(Some(self.origin), datagram, inner) {
            TunnResult::Done => Opened::Nothing,
            TunnResult::Err(_) => {
                count(&mut drops.unauthentic);
                return Opened::Nothing;
            }
            TunnResult::WriteToNetwork(message) => {
                learn(&mut self.sessions, kind, datagram, message, now);
                send(message);
                Opened::Nothing
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Opened::Packet(packet.len())
            }
        };
        if kind == DATA {
            self.confirm(datagram);
        }
        if self.flush && (kind == DATA || kind == HANDSHAKE_RESPONSE) {
            self.send_queued(Call { now, out, drops }, send);
        }
        opened
    }

    /// Retransmissions, keepalives, rekeying and expiry. Call it once a second.
    pub(crate) fn tick(&mut self, now: Duration, out: &mut [u8], mut send: impl FnMut(&[u8])) {
        self.limiter.reset_count();
        let limit = self.limits.reject_after_time;
        self.sessions.retain(|session| now.saturating_sub(session.established) < limit);
        match self.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(message) => {
                self.flush |= message.first() == Some(&HANDSHAKE_INITIATION);
                send(message);
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                // boringtun emptied its queue, and stays silent until the next packet of the zone.
                self.queued = 0;
                if self.keepalive {
                    self.initiate(out, &mut send);
                }
            }
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
        // The first handshake does not wait for traffic: the user sees at once whether the gateway answers.
        if !self.started {
            self.started = true;
            self.initiate(out, send);
        }
    }

    /// Nothing will happen until a packet comes.
    pub(crate) fn is_idle(&self) -> bool {
        self.started && self.tunn.is_expired() && !self.keepalive
    }

    /// When the newest session that can be used was made.
    pub(crate) fn established(&self, now: Duration) -> Option<Duration> {
        self.sessions
            .iter()
            .filter(|session| session.confirmed)
            .map(|session| session.established)
            .filter(|established| now.saturating_sub(*established) < self.limits.reject_after_time)
            .max()
    }

    /// Starts a handshake unless one runs.
    fn initiate(&mut self, out: &mut [u8], mut send: impl FnMut(&[u8])) {
        if let TunnResult::WriteToNetwork(message) = self.tunn.format_handshake_initiation(out, false) {
            self.flush = true;
            send(message);
        }
    }

    /// Sends what waited for a session.
    fn send_queued(&mut self, call: Call<'_>, mut send: impl FnMut(&[u8])) {
        let Call { now, out, drops } = call;
        self.flush = false;
        self.queued = 0;
        let mut worn = false;
        // One more than the queue holds: boringtun may have queued keepalives of its own.
        for _ in 0..MAX_QUEUED.saturating_add(1) {
            match self.tunn.decapsulate(None, &[], out) {
                TunnResult::WriteToNetwork(message) if message.first() == Some(&DATA) => {
                    let message: &[u8] = message;
                    let verdict = judge(&self.sessions, &self.limits, message, now);
                    if verdict.usable {
                        send(message);
                    } else {
                        count(&mut drops.no_session);
                    }
                    worn |= verdict.worn;
                }
                TunnResult::WriteToNetwork(handshake) => {
                    // The session went away: what is left waits for the next one.
                    self.flush = true;
                    send(handshake);
                    break;
                }
                TunnResult::Done
                | TunnResult::Err(_)
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..) => break,
            }
        }
        if worn {
            self.initiate(out, send);
        }
    }

    /// Whether a data message is worth decrypting: a known session, young enough, with a counter in range. This
    /// also keeps counters from boringtun that its replay window cannot add to.
    fn accepts(&self, message: &[u8], now: Duration) -> bool {
        let (Some(local), Some(counter)) = (le32(message, 4), le64(message, 8)) else { return false };
        counter < self.limits.reject_after_messages
            && self.sessions.iter().any(|session| {
                session.local == local
                    && now.saturating_sub(session.established) < self.limits.reject_after_time
            })
    }

    /// An authentic data message came.
    fn confirm(&mut self, message: &[u8]) {
        let local = le32(message, 4);
        for session in self.sessions.iter_mut().filter(|session| Some(session.local) == local) {
            session.confirmed = true;
        }
    }
}

/// What becomes of a data message that boringtun made.
struct Verdict {
    /// It may be sent.
    usable: bool,
    /// Its key needs a successor.
    worn: bool,
}

/// Judges a data message by the counter and session on it. A message that is not sent costs a counter, which is
/// never used again.
fn judge(sessions: &[Session], limits: &Limits, message: &[u8], now: Duration) -> Verdict {
    let (Some(remote), Some(counter)) = (le32(message, 4), le64(message, 8)) else {
        return Verdict { usable: false, worn: true };
    };
    let usable = counter < limits.reject_after_messages
        && sessions.iter().any(|session| {
            session.remote == remote && now.saturating_sub(session.established) < limits.reject_after_time
        });
    Verdict { usable, worn: !usable || counter >= limits.rekey_after_messages }
}

/// Takes down a session when its handshake completed: `message` is what boringtun answered to `datagram`.
fn learn(sessions: &mut Vec<Session>, kind: u8, datagram: &[u8], message: &[u8], now: Duration) {
    let indices = match (kind, message.first()) {
        // We responded: both indices are on our response.
        (HANDSHAKE_INITIATION, Some(&HANDSHAKE_RESPONSE)) => (le32(message, 4), le32(message, 8), false),
        // We initiated: ours is on the response, the peer's on the keepalive that confirms it.
        (HANDSHAKE_RESPONSE, Some(&DATA)) => (le32(datagram, 8), le32(message, 4), true),
        _ => return,
    };
    let (Some(local), Some(remote), confirmed) = indices else { return };
    if sessions.len() >= MAX_SESSIONS {
        sessions.remove(0);
    }
    sessions.push(Session { local, remote, established: now, confirmed });
}
