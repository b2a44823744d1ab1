//! Log lines of this process: to standard error, each with the zone's name, whichever thread writes it.

use std::fmt;
use std::sync::OnceLock;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

/// The zone that this process runs, once it knows.
static ZONE: OnceLock<String> = OnceLock::new();

/// Lines go to standard error from now on.
pub(crate) fn begin() {
    tracing_subscriber::fmt()
        .event_format(WithZone(Format::default().with_ansi(false).without_time()))
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
}

/// Lines carry this name from now on. Threads of devices and processors know nothing of zones, and need not.
pub(crate) fn name_zone(name: &str) {
    // A second name would be a second zone: there is none.
    let _first = ZONE.set(name.to_owned());
}

/// The usual line with the zone before it.
struct WithZone(Format<Full, ()>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for WithZone {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some(zone) = ZONE.get() {
            write!(writer, "zone={zone:?} ")?;
        }
        self.0.format_event(context, writer, event)
    }
}
