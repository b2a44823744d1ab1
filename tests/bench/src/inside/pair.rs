//! Two zones started together against the same two one after the other: parallel start must not cost.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use zone_protocol::agent::GUEST_CID;

use super::{PATIENCE, Started, Zone, park, start};
use crate::sample::{Contestant, Line};

/// Two private disks.
const DISKS: [&str; 2] = ["/run/first.img", "/run/second.img"];

/// How the second start waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Until the first zone's agent said Hello.
    AfterHello,
    /// Not at all.
    AtOnce,
}

/// Both ways in one round; each round begins with the other one.
pub(super) fn measure(zone: &Zone, round: u32) -> Line {
    let orders = if round.is_multiple_of(2) {
        [Order::AfterHello, Order::AtOnce]
    } else {
        [Order::AtOnce, Order::AfterHello]
    };
    let (mut serial_us, mut together_us) = (0, 0);
    for order in orders {
        match both(zone, order) {
            Ok(took) if order == Order::AtOnce => together_us = took,
            Ok(took) => serial_us = took,
            Err(error) => {
                return Line::Failed {
                    round,
                    who: Contestant::Ours,
                    reason: format!("two zones: {error:#}"),
                };
            }
        }
    }
    Line::Pair { round, serial_us, together_us }
}

/// Microseconds from the first process to the last Hello.
fn both(zone: &Zone, order: Order) -> anyhow::Result<u32> {
    let mut running = Vec::new();
    let took = start_both(zone, order, &mut running);
    for started in &mut running {
        // It may have ended by itself.
        let _ended = started.child.kill();
        started.child.wait().context("wait for its end")?;
    }
    for disk in DISKS {
        std::fs::remove_file(disk).context("remove a private disk")?;
    }
    took
}

fn start_both(zone: &Zone, order: Order, running: &mut Vec<Started>) -> anyhow::Result<u32> {
    let mut began = None;
    for disk in DISKS {
        let started = start(zone, Path::new(disk), Contestant::Ours, GUEST_CID)?;
        began.get_or_insert(started.began);
        running.push(started);
        if order == Order::AfterHello {
            hello(running.last_mut().context("it was just started")?)?;
        }
    }
    for started in running.iter_mut().filter(|started| started.agent.is_some()) {
        hello(started)?;
    }
    let began: Instant = began.context("two were started")?;
    Ok(u32::try_from(began.elapsed().as_micros())?)
}

fn hello(started: &mut Started) -> anyhow::Result<()> {
    let connection = started.agent()?.hello(&started.child, started.began + PATIENCE);
    let connection = connection.with_context(|| format!("it wrote: {}", started.output.tail()))?;
    started.held.push(park(connection)?);
    Ok(())
}
