//! Words for the display. Only glyphs of printable ASCII are in the image, so every text from outside
//! passes [`ascii`].

/// `text` with everything outside printable ASCII replaced by `_` and at most `most` characters long.
#[must_use]
pub fn ascii(text: &str, most: usize) -> String {
    let mut shown: String =
        text.chars().take(most).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '_' }).collect();
    if text.chars().nth(most).is_some() {
        shown.truncate(most.saturating_sub(3));
        shown.push_str("...");
    }
    shown
}

/// A number of bytes in at most four digits and a unit: `0 B`, `999 B`, `1.5 KiB`, `12 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut whole = count;
    let mut rest = 0;
    let mut unit = "";
    for name in UNITS {
        if whole < 1024 {
            break;
        }
        rest = whole % 1024;
        whole /= 1024;
        unit = name;
    }
    let tenth = rest * 10 / 1024;
    if whole < 10 { format!("{whole}.{tenth} {unit}") } else { format!("{whole} {unit}") }
}

/// Hours and minutes of the day for seconds since 1970.
#[must_use]
pub fn clock(unix_seconds: u64) -> String {
    let minutes = unix_seconds / 60;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}
