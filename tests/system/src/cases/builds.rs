//! What a build gives: the same bytes from the same packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use approval::Approval;
use template::{APPROVAL, INITRD, KERNEL, MANIFEST, ROOT, SIGNATURE};

use crate::world::World;

/// Two builds of `micro` from one download, by users with different habits.
pub(super) fn micro_twice(world: &mut World) -> anyhow::Result<()> {
    let folders = [("022", "twice-1"), ("077", "twice-2")];
    let mut builds = Vec::new();
    for (umask, name) in folders {
        let folder = world.artifacts.logs().join(name);
        drop(fs::remove_dir_all(&folder));
        build(world, umask, &folder).with_context(|| format!("build {}", folder.display()))?;
        builds.push(content(&folder)?);
    }
    let [first, second] = &builds[..] else { anyhow::bail!("two builds were made") };
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let expected = [APPROVAL, INITRD, ROOT, MANIFEST, SIGNATURE, KERNEL];
    ensure!(names == expected, "the template consists of {names:?}");
    for (name, bytes) in first {
        let other = second.get(name).with_context(|| format!("the second build has no {name}"))?;
        let place = bytes.iter().zip(other).position(|(one, other)| one != other);
        let length = bytes.len() == other.len();
        ensure!(place.is_none() && length, "two builds differ in {name}, first at byte {place:?}");
    }
    // What was tested is what is installed.
    let installed = content(&world.artifacts.file("templates/micro"))?;
    ensure!(installed == *first, "build/templates/micro is not what this checkout builds");
    for (_, name) in folders {
        fs::remove_dir_all(world.artifacts.logs().join(name))?;
    }
    Ok(())
}

fn build(world: &World, umask: &str, folder: &Path) -> anyhow::Result<()> {
    let this = std::env::current_exe().context("find this program")?;
    let root = world.artifacts.file("..").canonicalize().context("find the checkout")?;
    let output = Command::new("sh")
        .args(["-c", "umask \"$1\" && exec \"$2\" template micro \"$3\"", "sh", umask])
        .arg(this.with_file_name("bulkhead"))
        .arg(folder)
        .env("BULKHEAD_ROOT", root)
        .output()
        .context("start the builder")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn content(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut content = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("names are text")?.to_owned();
        let mut bytes = fs::read(&path)?;
        if name == APPROVAL {
            // Its signature is another one each time; what is approved is not.
            let approval = Approval::decode(&bytes).context("read an approval")?;
            bytes = [&approval.hash()[..], &approval.epoch.to_be_bytes()].concat();
        }
        content.insert(name, bytes);
    }
    Ok(content)
}
