//! `uplink`: the only process that holds the NIC.
//!
//! This is the shell around the pure [`uplink::Uplink`]: it moves frames between the packet socket and the
//! state machine, datagrams between the state machine and each tunnel's socket pair, and tells `zoned` what
//! changed. One thread, one `poll(2)`; nothing is opened after the start. Descriptors: see ARCHITECTURE.md.
//!
//! It never decides what may leave (the state machine does), never waits on one tunnel while another has
//! something to do, and never keeps a datagram that a full socket did not take.

#![forbid(unsafe_code)]

mod shell;

use anyhow::Context;
use jail::inherited::Inherited;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).without_time().init();
    let mut inherited = Inherited::from_environment();
    let control = inherited.take("control").context("the channel to zoned")?;
    let nic = match inherited.take("packet0") {
        Ok(socket) => {
            let mac = inherited.take("mac0").context("the NIC's address")?;
            let mut bytes = [0_u8; 6];
            let read = rustix::io::pread(&mac, &mut bytes, 0).context("read the NIC's address")?;
            anyhow::ensure!(read == bytes.len(), "the NIC's address has {read} bytes");
            Some(shell::Nic { socket, mac: bytes, carrier: inherited.take("carrier0").ok() })
        }
        Err(_absent) => None,
    };
    shell::Shell::new(ipc::Channel::from_descriptor(control), nic)?.run()
}
