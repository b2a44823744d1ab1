//! The `bulkhead` command: installs what a build needs, builds programs, images and templates, and hands
//! over to the runner of `tests/system` for everything that boots a machine.
//!
//! Each step writes below `build/` and can be run alone; a later step never changes what an earlier one made.
//! It never touches the user's apt sources, and of an image it runs nothing on this machine but Debian's own installation
//! scripts, in mmdebstrap's chroot.

mod arguments;
mod audit_log;
mod bench_disk;
mod cpio;
mod data_disk;
mod debian;
mod fuzz;
mod host_image;
mod kernel;
mod keys;
mod lock;
mod prerequisites;
mod programs;
mod progress;
mod runner;
mod sources;
mod template;
mod workspace;

use std::process::ExitCode;

use anyhow::{Context, Result};

use arguments::Command;
use programs::Programs;
use sources::Sources;
use workspace::Workspace;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            progress::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let command = arguments::parse(std::env::args_os())?;
    // On an admin's machine the log is checked without a checkout.
    if let Command::Audit { file, head } = &command {
        return audit_log::verify(file, head.as_deref());
    }
    let workspace = Workspace::find()?;
    match command {
        Command::Audit { .. } => Ok(ExitCode::SUCCESS),
        Command::Help => {
            progress::say(arguments::HELP);
            Ok(ExitCode::SUCCESS)
        }
        Command::Image { relock } => {
            if relock {
                debian::relock(&workspace)?;
            }
            build(&workspace)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { arguments } => {
            prerequisites::install()?;
            // A mistake in the words is said before a build of many minutes.
            if runner::machine(&workspace, "check-run", &arguments)? == ExitCode::FAILURE {
                return Ok(ExitCode::FAILURE);
            }
            build(&workspace)?;
            runner::machine(&workspace, "run", &arguments)
        }
        Command::List => {
            prerequisites::install()?;
            debian::sysroot(&workspace)?;
            runner::list(&workspace)
        }
        Command::Test(test) => {
            prerequisites::install()?;
            debian::sysroot(&workspace)?;
            debian::tools(&workspace)?;
            runner::test(&workspace, &test, build)
        }
        Command::Bench { arguments } => {
            prerequisites::install()?;
            runner::bench(&workspace, &arguments, build_for_bench)
        }
        Command::Fuzz(wanted) => fuzz::fuzz(&workspace, &wanted),
        Command::Template { name, folder } => {
            template::one(&Sources::gather(&workspace, programs::build)?, &name, &folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Policy { arguments } => runner::policy(&workspace, &arguments),
    }
}

/// Everything that a machine boots from, in order. Steps whose inputs did not change are quick.
fn build(workspace: &Workspace) -> Result<()> {
    images(workspace, programs::build).map(drop)
}

/// The same, and what only benchmarks boot.
fn build_for_bench(workspace: &Workspace) -> Result<()> {
    let sources = images(workspace, programs::build_for_bench)?;
    bench_disk::build(&sources).context("make the benchmarks' disk")
}

fn images<'a>(
    workspace: &'a Workspace,
    build_programs: impl FnOnce(&Workspace) -> Result<Programs>,
) -> Result<Sources<'a>> {
    let sources = Sources::gather(workspace, build_programs)?;
    host_image::build(&sources).context("make the host image")?;
    template::all(&sources)?;
    data_disk::build(workspace, &sources.tools).context("make the data disk")?;
    Ok(sources)
}
