//! What the output of a hostile process and the kernel's records about it reach, for `tests/fuzz`. The program
//! itself is `main.rs`.

mod audit;
mod lines;

use std::time::Duration;

/// Process and system call of a record of /dev/kmsg about a filter that killed.
#[must_use]
pub fn violation(record: &str) -> Option<(i32, &'static str)> {
    audit::parse(record).map(|violation| (violation.pid, audit::name(violation.call)))
}

/// The lines of a process that reach the console when it prints these bytes, one piece each millisecond.
#[must_use]
pub fn printed(pieces: &[&[u8]]) -> Vec<String> {
    let mut cutter = lines::Cutter::default();
    let mut ration = lines::Ration::new(Duration::ZERO);
    let mut now = Duration::ZERO;
    let mut printed = Vec::new();
    for piece in pieces {
        now = now.saturating_add(Duration::from_millis(1));
        let lines = cutter.push(piece);
        printed
            .extend(lines.into_iter().filter(|_| matches!(ration.line(now), lines::Passage::Print { .. })));
    }
    printed.extend(cutter.finish());
    printed
}
