use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

/// A private disk and a folder of the template, removed at the end.
struct Folders(PathBuf);

impl Folders {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("agent-kept-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(folder.join("home")).unwrap();
        fs::create_dir_all(folder.join("template/sub")).unwrap();
        fs::write(folder.join("template/sub/file"), "of the template").unwrap();
        fs::set_permissions(folder.join("template"), fs::Permissions::from_mode(0o750)).unwrap();
        Self(folder)
    }

    fn keep(&self) -> anyhow::Result<PathBuf> {
        let store = open_store(&self.0.join("home"))?;
        let target = OwnedFd::from(File::open(self.0.join("template"))?);
        let kept = kept_folder(&store, "/var/lib/app", &target)?;
        Ok(fs::read_link(in_proc(&kept))?)
    }

    fn home(&self, path: &str) -> PathBuf {
        self.0.join("home").join(path)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_kept_folder_begins_as_the_templates_and_stays_its_own() {
    let folders = Folders::new("copy");
    let kept = folders.keep().unwrap();
    assert_eq!(kept, folders.home(".kept/var=lib=app").canonicalize().unwrap());
    assert_eq!(fs::read_to_string(kept.join("sub/file")).unwrap(), "of the template");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::metadata(folders.home(".kept")).unwrap().permissions().mode() & 0o777, 0o700);
    fs::write(kept.join("sub/file"), "of the zone").unwrap();
    fs::write(folders.0.join("template/sub/file"), "of a later template").unwrap();
    assert_eq!(fs::read_to_string(folders.keep().unwrap().join("sub/file")).unwrap(), "of the zone");
}

#[test]
fn a_copy_that_was_cut_off_is_made_anew() {
    let folders = Folders::new("half");
    fs::create_dir_all(folders.home(".kept/.new/half")).unwrap();
    let kept = folders.keep().unwrap();
    assert!(kept.join("sub/file").exists() && !kept.join("half").exists());
    assert!(!folders.home(".kept/.new").exists());
}

#[test]
fn no_link_on_the_private_disk_is_followed() {
    let folders = Folders::new("store-link");
    symlink("/tmp", folders.home(".kept")).unwrap();
    assert!(folders.keep().is_err());
    let folders = Folders::new("folder-link");
    fs::create_dir(folders.home(".kept")).unwrap();
    symlink("/tmp", folders.home(".kept/var=lib=app")).unwrap();
    assert!(folders.keep().is_err());
}

#[test]
fn no_link_on_the_way_is_followed() {
    let folders = Folders::new("walk");
    symlink("/etc", folders.0.join("link")).unwrap();
    let path = |end: &str| folders.0.join(end).to_str().unwrap().to_owned();
    assert!(walk(&path("link/app")).is_err());
    walk(&path("new/deep")).unwrap();
    assert!(folders.0.join("new/deep").is_dir());
}
