//! What every image is made of, gathered once: tools, packages, kernels, our programs and the key.

use anyhow::{Context, Result};

use crate::debian::{self, Root};
use crate::kernel::{self, Kernels};
use crate::keys::Key;
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
    /// What signs templates.
    pub(crate) key: Key,
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
        let programs = build_programs(workspace)?;
        let kernels = kernel::extract(workspace, &tools, &packages).context("unpack the kernels")?;
        let key = Key::find(workspace).context("the key that signs templates")?;
        Ok(Self { workspace, tools, packages, kernels, programs, key })
    }
}
