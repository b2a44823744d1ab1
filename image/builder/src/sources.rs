//! What every image is made of, gathered once: tools, packages, kernels, our programs and the key.

use anyhow::{Context, Result};
use approval::Approver;

use crate::debian::{self, Root};
use crate::kernel::{self, Kernels};
use crate::keys::{self, Key};
use crate::prerequisites;
use crate::programs::Programs;
use crate::workspace::Workspace;

/// All of it.
pub(crate) struct Sources<'a> {
    /// The checkout and its build folder.
    pub(crate) workspace: &'a Workspace,
    /// Programs that the build runs.
    pub(crate) tools: Root,
    /// Unpacked packages.
    pub(crate) packages: Root,
    /// The kernels of host and zones.
    pub(crate) kernels: Kernels,
    /// Our programs.
    pub(crate) programs: Programs,
    /// Libraries of the TSS, which `keeper` needs in the image.
    pub(crate) sysroot: Root,
    /// What signs templates.
    pub(crate) key: Key,
    /// What approves what TPMs open secrets for.
    pub(crate) approver: Approver,
}

impl<'a> Sources<'a> {
    /// Installs, fetches and builds what is not there yet.
    pub(crate) fn gather(
        workspace: &'a Workspace,
        build_programs: impl FnOnce(&Workspace) -> Result<Programs>,
    ) -> Result<Self> {
        prerequisites::install()?;
        workspace.check_free_space()?;
        let tools = debian::tools(workspace).context("fetch the tools of the build")?;
        let packages = debian::packages(workspace).context("fetch the packages of the image")?;
        let sysroot = debian::sysroot(workspace).context("fetch the libraries of the TSS")?;
        let programs = build_programs(workspace)?;
        let kernels = kernel::extract(workspace, &tools, &packages).context("unpack the kernels")?;
        let key = Key::find(workspace).context("the key that signs templates")?;
        let approver = keys::approver(workspace).context("the key that approves")?;
        Ok(Self { workspace, tools, packages, kernels, programs, sysroot, key, approver })
    }
}
