//! `test_bridge`: see the library. `init` starts it when its file is there and passes the descriptor `port`;
//! it keeps root and the host's view of /proc, so it exists in test images only.

use std::path::Path;

use anyhow::Context;
use jail::inherited::Inherited;
use serde_json::{Value, json};
use test_bridge::forward::Forwarder;
use test_bridge::message::{Call, Reply, Splitter, encode};
use test_bridge::port::Port;
use test_bridge::{INTERFACE, look};

fn main() -> anyhow::Result<()> {
    let descriptor = Inherited::from_environment().take("port").context("take the port")?;
    let port = Port::new(descriptor);
    let forwarder = Forwarder::new(Path::new(control_api::SOCKET));
    let mut splitter = Splitter::default();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let length = port.read(&mut bytes).context("read the port")?;
        splitter.push(bytes.get(..length).unwrap_or_default());
        while let Some(message) = splitter.next_message() {
            // What is no call has no id to answer to.
            if let Ok(call) = serde_json::from_slice::<Call>(&message) {
                dispatch(call, &port, &forwarder)?;
            }
        }
    }
}

fn dispatch(call: Call, port: &Port, forwarder: &Forwarder) -> anyhow::Result<()> {
    let own = call.method.strip_prefix(INTERFACE).and_then(|rest| rest.strip_prefix('.'));
    if let Some(method) = own {
        let outcome = if method == "Cancel" {
            if let Some(id) = call.parameters.get("id").and_then(Value::as_u64) {
                forwarder.cancel(id);
            }
            Ok(json!({}))
        } else {
            look(method, call.parameters)
        };
        return port.write(&encode(&Reply::of(call.id, outcome))).context("write a reply");
    }
    let (port, forwarder) = (port.clone(), forwarder.clone());
    std::thread::Builder::new()
        .name(format!("call {}", call.id))
        .spawn(move || {
            forwarder.forward(&call, |reply| {
                // A port that is gone is noticed by the main thread.
                let _gone = port.write(reply);
            });
        })
        .context("start a thread")?;
    Ok(())
}
