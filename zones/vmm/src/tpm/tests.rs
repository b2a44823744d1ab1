//! The thread between the interface and a TPM that these tests play.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

/// `TPM2_GetRandom`, and an answer to it.
const COMMAND: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 2];
const ANSWER: [u8; 14] = [0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 2, 0xAB, 0xCD];

struct Bench {
    tpm: Arc<Tpm>,
    ending: Arc<Ending>,
    maker: Arc<Maker>,
}

impl Bench {
    fn new() -> Self {
        let ending = Arc::new(Ending::new().unwrap());
        Self { tpm: Arc::new(Tpm::new().unwrap()), ending, maker: crate::tests::maker() }
    }

    fn connect(&self) -> (Connected, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (self.tpm.connect(ours.into(), &self.maker, &self.ending).unwrap(), theirs)
    }

    /// As a guest's driver does it.
    fn start(&self) {
        self.tpm.write(0x08, &[1, 0, 0, 0]);
        self.tpm.write(0x40, &[1, 0, 0, 0]);
        COMMAND.chunks(4).zip((0x80..).step_by(4)).for_each(|(part, at)| self.tpm.write(at, part));
        self.tpm.write(0x4C, &[1, 0, 0, 0]);
    }

    /// The answer, once it is there.
    fn answer(&self, length: usize) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut running = [1; 4];
        while running != [0; 4] {
            assert!(Instant::now() < deadline, "no answer");
            self.tpm.read(0x4C, &mut running);
            std::thread::yield_now();
        }
        let mut answer = vec![0; length];
        self.tpm.read(0x80, &mut answer);
        answer
    }

    /// Why the machine ended, once it did.
    fn end(&self) -> Option<End> {
        let mut over = [PollFd::from_borrowed_fd(self.ending.event(), PollFlags::IN)];
        poll(&mut over, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
        self.ending.take()
    }
}

fn received(tpm: &mut UnixStream) -> [u8; COMMAND.len()] {
    let mut command = [0; COMMAND.len()];
    tpm.read_exact(&mut command).unwrap();
    command
}

#[test]
fn a_command_goes_to_the_socket_and_its_answer_comes_in_pieces() {
    let bench = Bench::new();
    for _ in 0..3 {
        let (connected, mut tpm) = bench.connect();
        bench.start();
        assert_eq!(received(&mut tpm), COMMAND);
        for byte in ANSWER {
            tpm.write_all(&[byte]).unwrap();
        }
        assert_eq!(bench.answer(14), ANSWER);
        connected.end(&bench.tpm);
        // As at power-on, and whoever held the socket sees its end.
        let mut status = [0; 4];
        bench.tpm.read(0x44, &mut status);
        assert_eq!((status, tpm.read(&mut [0; 1]).unwrap()), ([2, 0, 0, 0], 0));
    }
    assert_eq!(bench.ending.take(), None);
}

#[test]
fn a_command_of_an_earlier_run_is_not_sent_to_the_next_tpm() {
    let bench = Bench::new();
    let (connected, mut first) = bench.connect();
    bench.start();
    assert_eq!(received(&mut first), COMMAND);
    connected.end(&bench.tpm);
    // Nobody serves it now: it must not be remembered either.
    bench.tpm.write(0x4C, &[1]);
    let (connected, mut second) = bench.connect();
    second.set_nonblocking(true).unwrap();
    assert_eq!(second.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    connected.end(&bench.tpm);
}

#[test]
fn a_machine_does_not_outlive_its_tpm() {
    let lost = |what: &str| Some(End::Failed(format!("the virtual TPM {what}")));
    let bench = Bench::new();
    let (connected, tpm) = bench.connect();
    drop(tpm);
    assert_eq!(bench.end(), lost("is gone"));
    connected.end(&bench.tpm);

    let (connected, mut tpm) = bench.connect();
    tpm.write_all(&[0; 3]).unwrap();
    assert_eq!(bench.end(), lost("gave 3 bytes more than its answer has"));
    connected.end(&bench.tpm);

    let (connected, mut tpm) = bench.connect();
    bench.start();
    assert_eq!(received(&mut tpm), COMMAND);
    tpm.write_all(&[0x80, 1, 0, 0, 0x10, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(bench.end(), lost("gave an answer of 4096 bytes, from 10 to 3968 can be"));
    // Its guest is told, should it still run.
    assert_eq!(bench.answer(10), [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]);
    connected.end(&bench.tpm);
}
