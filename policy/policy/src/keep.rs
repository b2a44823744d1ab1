//! The rules of a zone's `keep`: folders beside /home that lie on its private disk.
//!
//! What a folder may be follows from what a zone's start promises: the root is the signed template, fresh each time.
//! So nothing is kept that holds programs, decides what runs and as whom, or is made anew by every start.

use crate::finding::Report;
use crate::read::Field;

/// The most folders of one zone.
const MOST: usize = 8;

/// The longest path. All of them stand on the zone's kernel command line.
const LONGEST: usize = 64;

const PATH: &str = "the absolute path of a folder: at most 64 characters of a-z, A-Z, 0-9, /, ., _, +, @ and -, \
                    without parts that are empty, \".\" or \"..\"";

/// Whole trees of which nothing is kept: programs of the template, what each start makes, what is kept anyway.
const TREES: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var/lock",
    "/var/run",
];
const NO_TREE: &str = "a folder outside of /bin, /boot, /dev, /home (always kept), /lib, /proc, /run, /sbin, /sys, \
                       /tmp, /usr, /var/lock and /var/run";

/// Folders that are too much at once.
const WHOLE: &[&str] = &["/etc", "/var", "/var/lib"];
const NO_WHOLE: &str = "a folder inside /etc, /var or /var/lib, not all of it";

/// What decides which programs run, and as whom.
const CRITICAL: &[&str] = &[
    "/etc/alternatives",
    "/etc/apparmor.d",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/dbus-1",
    "/etc/default",
    "/etc/group",
    "/etc/gshadow",
    "/etc/init.d",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/modprobe.d",
    "/etc/modules-load.d",
    "/etc/pam.d",
    "/etc/passwd",
    "/etc/polkit-1",
    "/etc/profile.d",
    "/etc/security",
    "/etc/shadow",
    "/etc/sudoers.d",
    "/etc/sysctl.d",
    "/etc/systemd",
    "/etc/tmpfiles.d",
    "/etc/udev",
    "/etc/xdg",
];
const NOT_CRITICAL: &str = "a folder of settings that do not decide what runs, and as whom";

/// Reads the list.
pub(crate) fn read(report: &mut Report, field: &Field<'_>, disposable: bool) -> Option<Vec<String>> {
    if disposable {
        report.add(
            field.at,
            &field.path,
            "it with disposable = true",
            "no folders to keep in a disposable zone",
        );
        return None;
    }
    let entries = field.list(report, 1..=MOST, "folders")?;
    let count = entries.len();
    let mut kept: Vec<(String, usize)> = Vec::new();
    for entry in &entries {
        let Some(path) = entry.text(report, PATH, path) else { continue };
        if let Some(allowed) = forbidden(&path) {
            report.add(entry.at, &entry.path, entry.show(), allowed);
            continue;
        }
        if let Some((other, at)) = kept.iter().find(|(other, _)| within(&path, other) || within(other, &path))
        {
            let line = report.line(*at);
            let (found, allowed) = if *other == path {
                (format!("{}, as in line {line}", entry.show()), "each folder once")
            } else {
                (format!("{} beside {other:?} of line {line}", entry.show()), "no folder inside another one")
            };
            report.add(entry.at, &entry.path, found, allowed);
            continue;
        }
        kept.push((path, entry.at));
    }
    (kept.len() == count).then(|| kept.into_iter().map(|(path, _)| path).collect())
}

fn path(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+@-".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    let good = text.len() <= LONGEST && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part));
    good.then(|| text.to_owned())
}

/// What would be allowed instead.
fn forbidden(path: &str) -> Option<&'static str> {
    if TREES.iter().any(|tree| within(path, tree)) {
        return Some(NO_TREE);
    }
    if WHOLE.contains(&path) {
        return Some(NO_WHOLE);
    }
    CRITICAL.iter().any(|tree| within(path, tree)).then_some(NOT_CRITICAL)
}

/// Whether a path is this folder or inside it.
fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
