//! The targets behind libFuzzer, which brings its own `main`. Which one runs is in the environment, because
//! every argument is the engine's. Built without the engine it replays the files that it is given.
#![cfg_attr(fuzzing, no_main)]

/// Variable that names the target.
const TARGET: &str = "BULKHEAD_FUZZ_TARGET";

fn target() -> Option<&'static fuzz::Target> {
    fuzz::find(&std::env::var(TARGET).ok()?)
}

#[cfg(fuzzing)]
mod engine {
    use std::sync::OnceLock;

    static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

    libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
        let run = RUN
            .get_or_init(|| super::target().expect("the variable BULKHEAD_FUZZ_TARGET names a target").run);
        run(bytes);
    });
}

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    use std::io::Write;
    let mut output = std::io::stdout().lock();
    let Some(target) = target() else {
        for target in fuzz::TARGETS {
            writeln!(output, "{} {}", target.name, target.attacks)?;
        }
        return Ok(());
    };
    for path in std::env::args_os().skip(1) {
        (target.run)(&std::fs::read(&path)?);
        writeln!(output, "{}", std::path::Path::new(&path).display())?;
    }
    Ok(())
}
