//! Where init and its children speak: the system console, and in need the screen.

use std::fs::{File, OpenOptions};
use std::io::Write;

/// The system console.
#[derive(Debug)]
pub(crate) struct Console {
    file: Option<File>,
}

impl Console {
    /// Opens it. Without a console init works on in silence: a machine need not have one.
    pub(crate) fn open() -> Self {
        Self { file: OpenOptions::new().write(true).open("/dev/console").ok() }
    }

    /// One line of init's own.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        self.line("init", &text.to_string());
    }

    /// One line of a child.
    pub(crate) fn line(&self, who: &str, text: &str) {
        // One write, so that the kernel's own lines come before or after it. A console that is gone cannot
        // be complained about anywhere.
        if let Some(mut file) = self.file.as_ref() {
            let _lost = file.write_all(format!("{who}: {text}\n").as_bytes());
        }
    }
}

/// Writes a sentence on an empty text screen, for a user who has no other picture any more.
pub(crate) fn show_on_screen(text: &str) {
    if let Ok(mut screen) = OpenOptions::new().write(true).open("/dev/tty0") {
        let bar = "=".repeat(72);
        // Clear, cursor home, bold.
        let page = format!("\x1b[2J\x1b[H\x1b[1m\n\n\n    {bar}\n\n    {text}\n\n    {bar}\x1b[0m\n");
        let _lost = screen.write_all(page.as_bytes());
    }
}
