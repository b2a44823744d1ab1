//! The desktop's process. Everything it needs was opened by `init`: `card0` and `input0`, `input1`, ...

use std::path::Path;

use anyhow::Context as _;
use desktop::app::App;
use desktop::input::Device;
use desktop::link::ZonedLink;
use desktop::screen::Card;
use jail::inherited::Inherited;

fn main() -> anyhow::Result<()> {
    let mut inherited = Inherited::from_environment();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).without_time().init();
    let card = Card::new(inherited.take("card0").context("take the display")?);
    let mut devices = Vec::new();
    for (name, descriptor) in inherited.take_all("input") {
        match Device::open(&name, descriptor) {
            Ok(device) => devices.push(device),
            // The others may still work.
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "input device left out"),
        }
    }
    let link = ZonedLink::new(Path::new(control_api::SOCKET));
    App::new(card, devices, link)?.run()
}
