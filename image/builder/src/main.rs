//! The `bulkhead` command: installs what a build needs, builds programs, images and templates, and hands
//! over to the runner of `tests/system` for everything that boots a machine.
//!
//! Each step writes below `build/` and can be run alone; a later step never changes what an earlier one made.
//! It never touches the user's apt sources and never runs anything of an image as root on this machine.

mod arguments;
mod bench_disk;
mod cpio;
mod data_disk;
mod debian;
mod host_image;
mod kernel;
mod prerequisites;
mod programs;
mod progress;
mod runner;
mod template;
mod workspace;

use std::process::ExitCode;

use anyhow::{Context, Result};

use arguments::Command;
use debian::Root;
use kernel::Kernels;
use programs::Programs;
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
    let workspace = Workspace::find()?;
    match arguments::parse(std::env::args_os())? {
        Command::Help => {
            progress::say(arguments::HELP);
            Ok(ExitCode::SUCCESS)
        }
        Command::Image => {
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
            runner::list(&workspace)
        }
        Command::Test(test) => {
            prerequisites::install()?;
            runner::test(&workspace, &test, build)
        }
        Command::Bench { arguments } => {
            prerequisites::install()?;
            runner::bench(&workspace, &arguments, build_for_bench)
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
    let (tools, kernels, programs) = images(workspace, programs::build_for_bench)?;
    bench_disk::build(workspace, &tools, &kernels, &programs).context("make the benchmarks' disk")
}

fn images(
    workspace: &Workspace,
    build_programs: impl FnOnce(&Workspace) -> Result<Programs>,
) -> Result<(Root, Kernels, Programs)> {
    prerequisites::install()?;
    workspace.check_free_space()?;
    let tools = debian::tools(workspace).context("fetch the tools of the build")?;
    let packages = debian::packages(workspace).context("fetch the packages of the image")?;
    let programs = build_programs(workspace)?;
    let kernels = kernel::extract(workspace, &tools, &packages).context("unpack the kernels")?;
    host_image::build(workspace, &tools, &packages, &kernels, &programs).context("make the host image")?;
    template::micro(workspace, &tools, &packages, &kernels, &programs).context("make the template micro")?;
    data_disk::build(workspace, &tools).context("make the data disk")?;
    Ok((tools, kernels, programs))
}
