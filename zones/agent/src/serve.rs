//! The agent's side of the stream to the host: Hello, whether the user's session is open, then an answer to each request.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use zone_protocol::agent::{
    Answer, Ask, Decoder, FromAgent, HOST_CID, PORT, Request, Status, VERSION, encode,
};

use crate::checks;
use crate::netlink::Changes;

/// The most checks at the same time.
const MAX_CHECKS: usize = 16;

/// The first and the longest wait between two attempts to connect.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The host wants the zone to shut down.
    ShutDown,
    /// The host closed it.
    Closed,
}

/// What the host has to know of the user's session, and the way to say it.
#[derive(Debug, Default)]
struct Session {
    open: bool,
    host: Option<Answers>,
}

impl Session {
    /// Says what is; a host that does not hear it has lost the connection.
    fn say(&self) {
        if let Some(host) = &self.host
            && let Err(error) = host.send(&FromAgent::Session { open: self.open })
        {
            crate::kmsg::log(&format!("say that the session is open: {error:#}"));
        }
    }
}

/// The session, shared by who watches it and who speaks with the host.
type Shared = Arc<Mutex<Session>>;

/// Changes what is known and says it.
fn change(session: &Shared, change: impl FnOnce(&mut Session)) {
    // Nothing that runs under the lock can panic.
    if let Ok(mut session) = session.lock() {
        change(&mut session);
        session.say();
    }
}

/// Connects to the host again and again; returns when the host wants the zone to shut down.
pub(crate) fn run() {
    let session = Shared::default();
    let watched = Arc::clone(&session);
    let watch = move || crate::session::watch(|open| change(&watched, |session| session.open = open));
    if let Err(error) = std::thread::Builder::new().name("session".to_owned()).spawn(watch) {
        crate::kmsg::log(&format!("no thread for the session: {error}"));
    }
    let changes = Changes::of_devices();
    let mut wait = FIRST_WAIT;
    loop {
        match crate::vsock::connect_to(HOST_CID, PORT) {
            Ok(stream) => {
                wait = FIRST_WAIT;
                let end = converse(stream, &session);
                change(&session, |session| session.host = None);
                match end {
                    Ok(End::ShutDown) => return,
                    Ok(End::Closed) => crate::kmsg::log("the host closed the connection"),
                    Err(error) => crate::kmsg::log(&format!("connection to the host: {error:#}")),
                }
            }
            Err(error) if wait == LONGEST_WAIT => crate::kmsg::log(&format!("connect to the host: {error}")),
            Err(_) => {}
        }
        // A device that appears may be the one we need.
        changes.wait(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn status() -> Status {
    Status {
        protocol: VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: checks::uptime_ms(),
    }
}

/// One end of the conversation that several checks may answer on.
#[derive(Clone, Debug)]
struct Answers {
    stream: Arc<Mutex<File>>,
}

impl Answers {
    fn send(&self, message: &FromAgent) -> anyhow::Result<()> {
        let frame = encode(message).context("encode")?;
        let mut stream = self.stream.lock().ok().context("another answer broke off")?;
        stream.write_all(&frame).context("write")
    }

    fn answer(&self, number: u32, answer: Answer) -> anyhow::Result<()> {
        self.send(&FromAgent::Response { number, answer })
    }
}

/// Speaks with the host until one of both has enough.
fn converse(stream: OwnedFd, session: &Shared) -> anyhow::Result<End> {
    let mut input = File::from(stream);
    let output = input.try_clone().context("duplicate the stream")?;
    let answers = Answers { stream: Arc::new(Mutex::new(output)) };
    let running = Arc::new(AtomicUsize::new(0));
    answers.send(&FromAgent::Hello(status()))?;
    change(session, |session| session.host = Some(answers.clone()));
    let mut decoder = Decoder::default();
    let mut bytes = [0_u8; 4096];
    loop {
        let count = input.read(&mut bytes).context("read")?;
        if count == 0 {
            return Ok(End::Closed);
        }
        decoder.push(bytes.get(..count).unwrap_or_default());
        while let Some(Request { number, ask }) = decoder.next_message()? {
            match ask {
                Ask::Status => answers.answer(number, Answer::Status(status()))?,
                Ask::RunCheck { name, arguments } => begin(&answers, &running, number, name, arguments)?,
                Ask::Sync => sync(&answers, &running, number)?,
                Ask::ShutDown => {
                    answers.answer(number, Answer::ShuttingDown)?;
                    return Ok(End::ShutDown);
                }
            }
        }
    }
}

/// Runs a check beside the conversation.
fn begin(
    answers: &Answers,
    running: &Arc<AtomicUsize>,
    number: u32,
    name: String,
    arguments: Vec<String>,
) -> anyhow::Result<()> {
    beside(answers, running, number, move || match checks::run(&name, &arguments) {
        Ok((passed, output)) => Answer::Check { passed, output },
        Err(reason) => Answer::Refused(reason),
    })
}

/// Writes everything to the disks, beside the conversation: a disk may take its time.
fn sync(answers: &Answers, running: &Arc<AtomicUsize>, number: u32) -> anyhow::Result<()> {
    beside(answers, running, number, || {
        rustix::fs::sync();
        Answer::Synced
    })
}

/// Has something answered beside the conversation.
fn beside(
    answers: &Answers,
    running: &Arc<AtomicUsize>,
    number: u32,
    work: impl FnOnce() -> Answer + Send + 'static,
) -> anyhow::Result<()> {
    if running.fetch_add(1, Ordering::SeqCst) >= MAX_CHECKS {
        running.fetch_sub(1, Ordering::SeqCst);
        return answers.answer(number, Answer::Refused("too many checks run already".to_owned()));
    }
    let (own_answers, own_running) = (answers.clone(), Arc::clone(running));
    let started = std::thread::Builder::new().name("check".to_owned()).spawn(move || {
        let answer = work();
        own_running.fetch_sub(1, Ordering::SeqCst);
        if let Err(error) = own_answers.answer(number, answer) {
            crate::kmsg::log(&format!("answer {number}: {error:#}"));
        }
    });
    if let Err(error) = started {
        running.fetch_sub(1, Ordering::SeqCst);
        return answers.answer(number, Answer::Refused(format!("no thread for it: {error}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    struct Host {
        stream: UnixStream,
        decoder: Decoder,
    }

    impl Host {
        fn new() -> (Self, std::thread::JoinHandle<anyhow::Result<End>>) {
            Self::with(Shared::default())
        }

        fn with(session: Shared) -> (Self, std::thread::JoinHandle<anyhow::Result<End>>) {
            let (stream, guest) = UnixStream::pair().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let agent = std::thread::spawn(move || converse(guest.into(), &session));
            (Self { stream, decoder: Decoder::default() }, agent)
        }

        fn ask(&mut self, number: u32, ask: Ask) {
            self.stream.write_all(&encode(&Request { number, ask }).unwrap()).unwrap();
        }

        fn next(&mut self) -> FromAgent {
            loop {
                if let Some(message) = self.decoder.next_message().unwrap() {
                    return message;
                }
                let mut bytes = [0; 64];
                let count = self.stream.read(&mut bytes).unwrap();
                assert_ne!(count, 0, "the agent closed the stream");
                self.decoder.push(&bytes[..count]);
            }
        }
    }

    #[test]
    fn the_agent_greets_answers_and_shuts_down() {
        let (mut host, agent) = Host::new();
        let FromAgent::Hello(hello) = host.next() else { panic!("no hello") };
        assert_eq!(host.next(), FromAgent::Session { open: false });
        assert_eq!((hello.protocol, hello.version.as_str()), (VERSION, env!("CARGO_PKG_VERSION")));
        host.ask(7, Ask::Status);
        let FromAgent::Response { number: 7, answer: Answer::Status(now) } = host.next() else { panic!() };
        assert!(now.uptime_ms >= hello.uptime_ms);
        let arguments = vec!["127.0.0.1".to_owned()];
        host.ask(8, Ask::RunCheck { name: "resolve".into(), arguments });
        let answer = Answer::Check { passed: true, output: "127.0.0.1\n".into() };
        assert_eq!(host.next(), FromAgent::Response { number: 8, answer });
        host.ask(9, Ask::RunCheck { name: "/bin/sh".into(), arguments: Vec::new() });
        assert!(matches!(host.next(), FromAgent::Response { number: 9, answer: Answer::Refused(_) }));
        host.ask(11, Ask::Sync);
        assert_eq!(host.next(), FromAgent::Response { number: 11, answer: Answer::Synced });
        host.ask(10, Ask::ShutDown);
        assert_eq!(host.next(), FromAgent::Response { number: 10, answer: Answer::ShuttingDown });
        assert_eq!(agent.join().unwrap().unwrap(), End::ShutDown);
    }

    #[test]
    fn a_slow_check_holds_up_no_other() {
        let (mut host, agent) = Host::new();
        host.next();
        host.next();
        // Nobody answers there: this check takes its whole time.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        host.ask(1, Ask::RunCheck { name: "fetch".into(), arguments: vec![url, "0".into()] });
        host.ask(2, Ask::Status);
        assert!(matches!(host.next(), FromAgent::Response { number: 2, .. }));
        drop(listener);
        assert!(matches!(
            host.next(),
            FromAgent::Response { number: 1, answer: Answer::Check { passed: false, .. } }
        ));
        drop(host);
        assert_eq!(agent.join().unwrap().unwrap(), End::Closed);
    }

    #[test]
    fn the_session_is_said_at_once_and_when_it_changes() {
        let session = Shared::default();
        change(&session, |session| session.open = true);
        let (mut host, agent) = Host::with(Arc::clone(&session));
        assert!(matches!(host.next(), FromAgent::Hello(_)));
        assert_eq!(host.next(), FromAgent::Session { open: true });
        change(&session, |session| session.open = false);
        assert_eq!(host.next(), FromAgent::Session { open: false });
        drop(host);
        assert_eq!(agent.join().unwrap().unwrap(), End::Closed);
    }

    #[test]
    fn a_host_that_speaks_nonsense_is_left() {
        let (mut host, agent) = Host::new();
        host.stream.write_all(&[0xff; 16]).unwrap();
        assert!(agent.join().unwrap().is_err());
    }
}
