//! The rules of a zone's `user`: the login name of its user inside.

use crate::finding::Report;
use crate::read::Field;

/// The name when the file gives none.
pub(crate) const DEFAULT: &str = "user";

const NAME: &str = "1 to 31 characters of a-z, 0-9 and -, the first of a-z";
const OWN: &str = "a name that Debian gives to no user or group of its own";

/// Users and groups of Debian 13's base system and of what a zone's template brings. The user's own group has the
/// user's name, so both count. Each template's names that begin with `systemd-` are refused by that.
const TAKEN: &[&str] = &[
    "adm",
    "audio",
    "backup",
    "bin",
    "cdrom",
    "clock",
    "crontab",
    "daemon",
    "dialout",
    "dip",
    "disk",
    "fax",
    "floppy",
    "games",
    "input",
    "irc",
    "kmem",
    "kvm",
    "list",
    "lp",
    "mail",
    "man",
    "messagebus",
    "netdev",
    "news",
    "nobody",
    "nogroup",
    "operator",
    "plugdev",
    "polkitd",
    "proxy",
    "render",
    "root",
    "rtkit",
    "sasl",
    "sgx",
    "shadow",
    "src",
    "staff",
    "sudo",
    "sync",
    "sys",
    "tape",
    "tss",
    "tty",
    "users",
    "utmp",
    "uucp",
    "video",
    "voice",
    "wheel",
    "www-data",
];

/// Reads the name.
pub(crate) fn read(report: &mut Report, field: &Field<'_>) -> Option<String> {
    let name = field.text(report, NAME, |text| crate::values::name(text).filter(|name| name.len() <= 31))?;
    if TAKEN.contains(&name.as_str()) || name.starts_with("systemd-") {
        report.add(field.at, &field.path, field.show(), OWN);
        return None;
    }
    Some(name)
}
