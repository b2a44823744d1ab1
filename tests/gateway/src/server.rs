//! The demo network behind QEMU's socket: one thread that polls, and the handle to it.
//!
//! QEMU connects; when it goes away the socket stays and the next QEMU connects. A newer connection replaces
//! an older one. Output that QEMU does not read is bounded: past the bound frames are lost and counted.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::addresses::Site;
use crate::config::Config;
use crate::frame_codec::{Decoder, encode};
use crate::network::{Counters, DemoNetwork, Silence};
use crate::recorder::{Direction, Frame, Mark, RecordLost, Recorder};
use crate::wireguard::Output;

/// Bytes that may wait for QEMU to read them.
const MAX_PENDING: usize = 8 * 1024 * 1024;

/// Why the demo network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket cannot be made.
    #[error("listen on {}", path.display())]
    Listen {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pcap file cannot be made.
    #[error("create pcap file")]
    Pcap(#[source] io::Error),
    /// No thread or wake-up descriptor is to be had.
    #[error("start the network's thread")]
    Thread(#[source] io::Error),
}

/// The running demo network. Dropping it stops it and removes its socket.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    recorder: Recorder,
    counters: Mutex<Counters>,
    silent: [AtomicBool; 2],
    stop: AtomicBool,
    wake: OwnedFd,
}

/// Starts the demo network.
///
/// # Errors
/// [`StartError`].
pub fn start(config: Config) -> Result<Gateway, StartError> {
    let listener = listen(&config.socket)
        .map_err(|source| StartError::Listen { path: config.socket.clone(), source })?;
    let recorder = Recorder::new(config.record_bytes, config.pcap.as_deref()).map_err(StartError::Pcap)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| StartError::Thread(errno.into()))?;
    let shared = Arc::new(Shared {
        recorder,
        counters: Mutex::default(),
        silent: [AtomicBool::new(false), AtomicBool::new(false)],
        stop: AtomicBool::new(false),
        wake,
    });
    let server = Server {
        shared: Arc::clone(&shared),
        listener,
        link: None,
        network: DemoNetwork::new(&config.keys),
        started: Instant::now(),
        lost: 0,
        connections: 0,
    };
    let thread = std::thread::Builder::new()
        .name("demo network".to_owned())
        .spawn(move || server.run())
        .map_err(StartError::Thread)?;
    Ok(Gateway { shared, socket: config.socket, thread: Some(thread) })
}

fn listen(path: &std::path::Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Gateway {
    /// The end of the record as it is now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.shared.recorder.mark()
    }

    /// Every packet recorded since `mark`.
    ///
    /// # Errors
    /// [`RecordLost`] when some are no longer kept.
    pub fn frames(&self, mark: Mark) -> Result<Vec<Frame>, RecordLost> {
        self.shared.recorder.since(mark)
    }

    /// Waits until a packet since `mark` satisfies `wanted`; `None` when the deadline passed.
    ///
    /// # Errors
    /// [`RecordLost`] when some packets since the mark are no longer kept.
    pub fn wait_for(
        &self,
        mark: Mark,
        deadline: Instant,
        wanted: impl FnMut(&Frame) -> bool,
    ) -> Result<Option<Frame>, RecordLost> {
        self.shared.recorder.wait_for(mark, deadline, wanted)
    }

    /// Makes a site's gateway deaf and dumb, or ends that. It holds for every frame that comes after this call.
    pub fn set_silent(&self, site: Site, silence: Silence) {
        self.shared.silent[site.index()].store(silence == Silence::Silent, Ordering::SeqCst);
    }

    /// What the network has seen.
    #[must_use]
    pub fn counters(&self) -> Counters {
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread and removes the socket. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // The counter of an eventfd overflows after 2^64 - 2 wake-ups; there is one.
        let woken = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            // A panic of the thread was printed when it happened.
            let _panicked = thread.join();
        }
        // Whoever starts next replaces a socket that stays behind.
        let _left_behind = std::fs::remove_file(&self.socket);
    }
}

/// A connection of QEMU.
struct Link {
    stream: UnixStream,
    decoder: Decoder,
    pending: Vec<u8>,
    written: usize,
}

struct Server {
    shared: Arc<Shared>,
    listener: UnixListener,
    link: Option<Link>,
    network: DemoNetwork,
    started: Instant,
    lost: u64,
    connections: u64,
}

impl Server {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.wait();
            self.accept();
            self.apply_silence();
            self.read();
            let mut output = Output::default();
            self.network.poll(self.started.elapsed(), &mut output);
            self.deliver(output);
            self.write();
            self.publish();
        }
        self.shared.recorder.flush();
    }

    fn wait(&mut self) {
        let next = self.network.next_poll(self.started.elapsed());
        let timeout = Timespec::try_from(next).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut descriptors =
            vec![PollFd::new(&self.shared.wake, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        if let Some(link) = &self.link {
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, link.written < link.pending.len());
            descriptors.push(PollFd::new(&link.stream, wanted));
        }
        // An interrupted wait only comes round earlier.
        let _interrupted = poll(&mut descriptors, Some(&timeout));
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.connections += 1;
                self.link =
                    Some(Link { stream, decoder: Decoder::default(), pending: Vec::new(), written: 0 });
            }
        }
    }

    fn apply_silence(&mut self) {
        for site in Site::ALL {
            let silent = self.shared.silent[site.index()].load(Ordering::SeqCst);
            self.network.set_silent(site, if silent { Silence::Silent } else { Silence::Answering });
        }
    }

    fn read(&mut self) {
        let Some(link) = &mut self.link else { return };
        let mut bytes = vec![0; 256 * 1024];
        let open = match link.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                let mut decoder = std::mem::take(&mut link.decoder);
                decoder.push(bytes.get(..length).unwrap_or_default());
                let in_step = self.receive(&mut decoder);
                if let Some(link) = &mut self.link {
                    link.decoder = decoder;
                }
                in_step
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        if !open {
            self.link = None;
        }
    }

    /// Handles every complete frame; false when the stream is out of step.
    fn receive(&mut self, decoder: &mut Decoder) -> bool {
        let mut output = Output::default();
        let in_step = loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    let time = self.started.elapsed();
                    let bytes = frame.to_vec();
                    self.shared.recorder.add(Frame { time, direction: Direction::FromHost, bytes });
                    self.apply_silence();
                    self.network.receive(time, frame, &mut output);
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        self.deliver(output);
        in_step
    }

    /// Queues frames for QEMU and records everything.
    fn deliver(&mut self, output: Output) {
        let time = self.started.elapsed();
        for (site, bytes) in output.inner {
            self.shared.recorder.add(Frame { time, direction: Direction::Inner(site), bytes });
        }
        for bytes in output.frames {
            match &mut self.link {
                Some(link) if link.pending.len() - link.written + bytes.len() <= MAX_PENDING => {
                    encode(&bytes, &mut link.pending);
                    self.shared.recorder.add(Frame { time, direction: Direction::ToHost, bytes });
                }
                Some(_) | None => self.lost += 1,
            }
        }
    }

    fn write(&mut self) {
        let Some(link) = &mut self.link else { return };
        while let Some(rest) = link.pending.get(link.written..).filter(|rest| !rest.is_empty()) {
            match link.stream.write(rest) {
                Ok(length) => link.written += length,
                // A broken link is noticed by the next read.
                Err(_) => break,
            }
        }
        if link.written > 64 * 1024 || link.written == link.pending.len() {
            link.pending.drain(..link.written);
            link.written = 0;
        }
    }

    fn publish(&self) {
        let counters = Counters { lost: self.lost, connections: self.connections, ..self.network.counters() };
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}
