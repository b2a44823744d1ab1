//! The host's data disk: an ext4 file system with the templates, in which `zoned` makes the zones' disks.

use std::fs;

use anyhow::{Context, Result};
use template::MANIFEST;

use crate::debian::Root;
use crate::progress::Step;
use crate::workspace::{Workspace, cached};

/// Every template.
const TEMPLATES: &[&str] = &["debian", "micro"];

/// Size of the file system; the file is sparse.
const SIZE: &str = "3G";

/// Builds `build/data.img` and, with the attack programs in its templates, `build/data-test.img`.
pub(crate) fn build(workspace: &Workspace, tools: &Root) -> Result<()> {
    for (image, templates) in [("data.img", "templates"), ("data-test.img", "templates-test")] {
        let output = workspace.built(image);
        let source = workspace.built(templates);
        // A manifest names every byte of its template.
        let mut inputs = String::new();
        for template in TEMPLATES {
            inputs += &fs::read_to_string(source.join(template).join(MANIFEST)).context("read a manifest")?;
        }
        cached(&output, &inputs, || {
            let step = Step::begin(format!("making {image}"));
            let staging = workspace.built("staging-data");
            if staging.exists() {
                fs::remove_dir_all(&staging)?;
            }
            fs::create_dir_all(staging.join("zones"))?;
            for template in TEMPLATES {
                copy_folder(&source.join(template), &staging.join("templates").join(template))?;
            }
            if output.exists() {
                fs::remove_file(&output)?;
            }
            tools
                .output(
                    "usr/sbin/mke2fs",
                    &[
                        "-q".as_ref(),
                        "-t".as_ref(),
                        "ext4".as_ref(),
                        "-L".as_ref(),
                        "bulkhead-data".as_ref(),
                        "-E".as_ref(),
                        "root_owner=0:0".as_ref(),
                        "-d".as_ref(),
                        staging.as_os_str(),
                        output.as_os_str(),
                        SIZE.as_ref(),
                    ],
                )
                .context("make the file system")?;
            fs::remove_dir_all(&staging)?;
            step.done();
            Ok(())
        })?;
    }
    Ok(())
}

fn copy_folder(source: &std::path::Path, target: &std::path::Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source).with_context(|| format!("list {}", source.display()))? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to).with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
