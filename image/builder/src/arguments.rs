//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;

use crate::fuzz::Fuzz;

/// What `bulkhead help` prints.
pub(crate) const HELP: &str = "\
bulkhead: build, run and test the appliance

  ./bulkhead run [--headless] [--zone NAME] [--screenshot FILE] [--policy FILE]
      build everything, start the demo network and boot the host in QEMU
  ./bulkhead test [--list] [--soak] [--seed N] [NAME...]
      what CI runs: format, lints, unit, property and system tests
  ./bulkhead bench [--list] [NAME...] [--rounds N] [--json] [--profile]
      measure side by side with the named peers
  ./bulkhead fuzz TARGET... | --all [--seconds N]
      search inputs that break a promise, N seconds each (60), and keep what reaches new code
  ./bulkhead image [--relock]
      build the images and stop; --relock takes the newest Debian packages
  ./bulkhead template micro FOLDER
      build a zone template from what is there into a folder, to compare it with another's
  ./bulkhead policy lint|show|explain FILE
      check a policy file
  ./bulkhead audit verify FILE [--head POSITION:HASH]
      print an audit log (exported records, or audit.log of a data disk) and find what was altered";

/// What the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print [`HELP`].
    Help,
    /// Build the images; with `relock` from the newest packages.
    Image { relock: bool },
    /// Boot the appliance; the rest goes to the runner.
    Run { arguments: Vec<OsString> },
    /// List the tests.
    List,
    /// Run tests.
    Test(Test),
    /// Measure; the rest goes to the runner.
    Bench { arguments: Vec<OsString> },
    /// Fuzz.
    Fuzz(Fuzz),
    /// Build a template into a folder.
    Template { name: OsString, folder: PathBuf },
    /// Ask `policyctl`.
    Policy { arguments: Vec<OsString> },
    /// Verify an audit log; the head that is known from elsewhere.
    Audit { file: PathBuf, head: Option<String> },
}

/// Which tests, and how long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Test {
    /// Long series run whole.
    pub(crate) soak: bool,
    /// Seed of random series; chosen by the runner when absent.
    pub(crate) seed: Option<OsString>,
    /// Parts of names; empty: all.
    pub(crate) names: Vec<OsString>,
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
        Some("image") if rest.is_empty() => Command::Image { relock: false },
        Some("image") if rest == ["--relock"] => Command::Image { relock: true },
        Some("image") => bail!("./bulkhead image takes --relock or nothing, found {rest:?}"),
        Some("run") => Command::Run { arguments: rest },
        Some("test") if rest == ["--list"] => Command::List,
        Some("test") => Command::Test(parse_test(rest)?),
        Some("bench") => Command::Bench { arguments: rest },
        Some("fuzz") => Command::Fuzz(parse_fuzz(rest)?),
        Some("template") => match <[OsString; 2]>::try_from(rest) {
            Ok([name, folder]) => Command::Template { name, folder: folder.into() },
            Err(rest) => bail!("./bulkhead template takes a name and a folder, found {rest:?}"),
        },
        Some("policy") => Command::Policy { arguments: rest },
        Some("audit") => parse_audit(rest)?,
        _ => bail!(
            "{command:?} is no command of ./bulkhead: allowed are run, test, bench, fuzz, image, template, policy, \
             audit and help"
        ),
    })
}

fn parse_audit(words: Vec<OsString>) -> Result<Command> {
    let mut words = words.into_iter();
    let known = (words.next(), words.next(), words.next(), words.next(), words.next());
    match known {
        (Some(verb), Some(file), None, None, None) if verb == "verify" => {
            Ok(Command::Audit { file: file.into(), head: None })
        }
        (Some(verb), Some(file), Some(option), Some(head), None)
            if verb == "verify" && option == "--head" =>
        {
            let head = head.to_str().map(str::to_owned);
            Ok(Command::Audit { file: file.into(), head: Some(head.unwrap_or_default()) })
        }
        _ => bail!("./bulkhead audit takes: verify FILE [--head POSITION:HASH]"),
    }
}

fn parse_test(words: Vec<OsString>) -> Result<Test> {
    let mut test = Test::default();
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("soak") => test.soak = true,
            Long("seed") => test.seed = Some(parser.value()?),
            Value(name) => test.names.push(name),
            other @ (Long(_) | Short(_)) => {
                bail!("{}; allowed are --list, --soak, --seed N and names of tests", other.unexpected())
            }
        }
    }
    Ok(test)
}

fn parse_fuzz(words: Vec<OsString>) -> Result<Fuzz> {
    let mut fuzz = Fuzz { targets: Vec::new(), all: false, seconds: 60 };
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("all") => fuzz.all = true,
            Long("seconds") => fuzz.seconds = parser.value()?.parse()?,
            Value(name) => fuzz.targets.push(name),
            other @ (Long(_) | Short(_)) => {
                bail!("{}; allowed are --all, --seconds N and names of targets", other.unexpected())
            }
        }
    }
    Ok(fuzz)
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
        check(&["image"], Command::Image { relock: false });
        check(&["image", "--relock"], Command::Image { relock: true });
        check(&["test", "--list"], Command::List);
        let test = Test { soak: true, seed: Some("7".into()), names: vec!["leak".into()] };
        check(&["test", "--soak", "--seed", "7", "leak"], Command::Test(test));
        let fuzz = Fuzz { targets: vec!["vsock".into()], all: false, seconds: 9 };
        check(&["fuzz", "vsock", "--seconds", "9"], Command::Fuzz(fuzz));
        let audit = |head: Option<&str>| Command::Audit { file: "f".into(), head: head.map(str::to_owned) };
        check(&["audit", "verify", "f"], audit(None));
        check(&["audit", "verify", "f", "--head", "7:ab"], audit(Some("7:ab")));
        let template = Command::Template { name: "micro".into(), folder: "out".into() };
        check(&["template", "micro", "out"], template);
        check(&["run", "--headless"], Command::Run { arguments: vec!["--headless".into()] });
    }

    #[test]
    fn unknown_words_are_named() {
        let error = parse(["bulkhead", "fly"].map(OsString::from)).unwrap_err().to_string();
        assert!(error.contains("\"fly\"") && error.contains("allowed are"), "{error}");
    }
}
