//! The command line.

use std::ffi::OsString;

use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short, Value};

/// What `bulkhead help` prints.
pub(crate) const HELP: &str = "\
bulkhead: build, run and test the appliance

  ./bulkhead run [--headless] [--zone NAME] [--screenshot FILE] [--policy FILE]
      build everything, start the demo network and boot the host in QEMU
  ./bulkhead test [--list] [--soak] [--seed N] [NAME...]
      what CI runs: format, lints, unit, property and system tests
  ./bulkhead bench [zone-start] [--json]
      measure side by side with the named peers
  ./bulkhead image
      build the images and stop
  ./bulkhead policy lint|show|explain FILE
      check a policy file";

/// What the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print [`HELP`].
    Help,
    /// Build the images.
    Image,
    /// Boot the appliance; the rest goes to the runner.
    Run { arguments: Vec<OsString> },
    /// Run tests, or list them.
    Test { list: bool, arguments: Vec<OsString> },
    /// Measure; the rest goes to the runner.
    Bench { arguments: Vec<OsString> },
    /// Ask `policyctl`.
    Policy { arguments: Vec<OsString> },
}

/// Reads the command line, program name first.
///
/// # Errors
/// A sentence that names the word and what is allowed.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parser = lexopt::Parser::from_iter(words);
    let command = match parser.next()? {
        None | Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(Value(word)) => word,
        Some(other) => bail!("{}; see ./bulkhead help", other.unexpected()),
    };
    let rest: Vec<OsString> = parser.raw_args()?.collect();
    Ok(match command.to_str() {
        Some("help") => Command::Help,
        Some("image") if rest.is_empty() => Command::Image,
        Some("image") => bail!("./bulkhead image takes no arguments, found {rest:?}"),
        Some("run") => Command::Run { arguments: rest },
        Some("test") => {
            let list = rest.iter().any(|word| word == "--list");
            Command::Test { list, arguments: rest.into_iter().filter(|word| word != "--list").collect() }
        }
        Some("bench") => Command::Bench { arguments: rest },
        Some("policy") => Command::Policy { arguments: rest },
        _ => bail!(
            "{command:?} is no command of ./bulkhead: allowed are run, test, bench, image, policy and help"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: Command) {
        let words = std::iter::once("bulkhead").chain(words.iter().copied()).map(OsString::from);
        assert_eq!(parse(words).unwrap(), expected);
    }

    #[test]
    fn words_become_commands() {
        check(&[], Command::Help);
        check(&["image"], Command::Image);
        check(&["test", "--list"], Command::Test { list: true, arguments: vec![] });
        check(&["run", "--headless"], Command::Run { arguments: vec!["--headless".into()] });
    }

    #[test]
    fn unknown_words_are_named() {
        let error = parse(["bulkhead", "fly"].map(OsString::from)).unwrap_err().to_string();
        assert!(error.contains("\"fly\"") && error.contains("allowed are"), "{error}");
    }
}
