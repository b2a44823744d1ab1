//! `policyctl`: the administrator's look at a policy file.
//!
//! `lint` prints everything that is wrong with it, `show` what it says, `explain` which line grants what. It
//! never changes a file and never talks to a host; it answers by the same code that a host uses.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

mod show;

const USAGE: &str = "\
usage: policyctl lint FILE
       policyctl show FILE
       policyctl explain FILE \"zone NAME KEY\"

  lint     prints every mistake as file:line: key: found X, allowed Y; exit code 1 if there is one
  show     prints what the policy says
  explain  prints the line that says it: policyctl explain policy.toml \"zone office network\"
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments, &mut io::stdout().lock(), &mut io::stderr().lock()) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when this fails, too.
            drop(writeln!(io::stderr(), "policyctl: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// 0: done; 1: the policy has mistakes or no answer; 2: wrong usage, or a file that cannot be read.
fn run(arguments: &[String], out: &mut impl Write, complaints: &mut impl Write) -> anyhow::Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (command, file) = match words.as_slice() {
        ["lint", file] | ["show", file] | ["explain", file, _] => (words.first().copied(), *file),
        _ => {
            write!(complaints, "{USAGE}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let text = read(file)?;
    if let (Some("explain"), Some(question)) = (command, words.get(2)) {
        return match policy::explain(file, &text, question) {
            Ok(lines) => {
                for line in lines {
                    writeln!(out, "{file}:{}: {} = {}", line.line, line.key, line.value)?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                writeln!(complaints, "{error}")?;
                Ok(ExitCode::FAILURE)
            }
        };
    }
    match policy::verify(file, &text) {
        Ok(policy) if command == Some("show") => show::show(out, &policy)?,
        Ok(policy) => {
            let (zones, tunnels) = (policy.zones.len(), policy.tunnels.len());
            writeln!(out, "{file}: no mistakes; {zones} zones, {tunnels} tunnels")?;
        }
        Err(findings) => {
            writeln!(complaints, "{findings}")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file's text, but never more of it than a policy may have (and one byte, by which it is found too long).
fn read(file: &str) -> anyhow::Result<String> {
    use std::io::Read;
    let limit = u64::try_from(policy::MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    let opened = std::fs::File::open(file).with_context(|| format!("open {file}"))?;
    opened.take(limit).read_to_string(&mut text).with_context(|| format!("read {file}"))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
