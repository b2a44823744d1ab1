//! The lock of a set of Debian packages: every package with its version and SHA-256, so that the same lock gives the
//! same bytes.
//!
//! A build without a lock writes one; a build with one takes exactly those packages or ends with the name of the
//! first that the mirror does not have any more. A lock belongs to the list of packages that was asked for: when that
//! changes, the next build writes a new one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What the mirror must give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// What was asked for.
    request: String,
    /// Version and SHA-256 by `package:architecture`.
    packages: BTreeMap<String, (String, String)>,
}

impl Lock {
    /// The lock for this request, if there is one.
    pub(crate) fn read(path: &Path, request: &str) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let lock = Self::parse(&text).with_context(|| {
            format!("{}: remove it, or run ./bulkhead image --relock, to make a new one", path.display())
        })?;
        Ok((lock.request == request).then_some(lock))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let request =
            lines.next().and_then(|line| line.strip_prefix("# ")).context("line 1: no `# REQUEST`")?;
        let mut packages = BTreeMap::new();
        for (number, line) in lines.enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, version, sum] = words[..] else {
                bail!("line {}: found {line:?}, allowed are package, version and SHA-256", number + 2);
            };
            packages.insert(name.to_owned(), (version.to_owned(), sum.to_owned()));
        }
        Ok(Self { request: request.to_owned(), packages })
    }

    /// Takes what `sha256sum` said of apt's downloads: `SUM  NAME_VERSION_ARCHITECTURE.deb`.
    pub(crate) fn of_downloads(request: &str, sums: &str) -> Result<Self> {
        let mut packages = BTreeMap::new();
        for line in sums.lines() {
            let entry = line.split_once("  ").and_then(|(sum, file)| {
                let mut parts = file.strip_suffix(".deb")?.split('_');
                let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
                // apt writes an epoch's colon so.
                Some((format!("{name}:{architecture}"), (version.replace("%3a", ":"), sum.to_owned())))
            });
            let (name, entry) = entry.with_context(|| format!("found no package in {line:?}"))?;
            packages.insert(name, entry);
        }
        if packages.is_empty() {
            bail!("found no package at all");
        }
        Ok(Self { request: request.to_owned(), packages })
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("# {}\n", self.request);
        for (name, (version, sum)) in &self.packages {
            writeln!(text, "{name} {version} {sum}").expect("text in memory takes all");
        }
        text
    }

    /// Preferences with which apt takes these versions, if the mirror has them.
    pub(crate) fn preferences(&self) -> String {
        let mut text = String::new();
        for (name, (version, _)) in &self.packages {
            let name = name.split(':').next().unwrap_or(name);
            writeln!(text, "Package: {name}\nPin: version {version}\nPin-Priority: 1001\n")
                .expect("text in memory takes all");
        }
        text
    }

    /// Whether the mirror gave exactly what is locked.
    ///
    /// # Errors
    /// A sentence that names the first package that differs, and what to do.
    pub(crate) fn compare(&self, found: &Self, path: &Path) -> Result<()> {
        let path = path.display();
        let relock = "run ./bulkhead image --relock to take what the mirror has now";
        for (name, (version, sum)) in &self.packages {
            match found.packages.get(name) {
                Some((same, other)) if same == version && other == sum => {}
                Some((same, other)) if same == version => {
                    bail!(
                        "{name} {version}: {path} has the SHA-256 {sum}, the mirror's file has {other}; {relock}"
                    )
                }
                Some((other, _)) => {
                    bail!(
                        "{name} {version}, which {path} names, vanished from the mirror: it has {other}; {relock}"
                    )
                }
                None => bail!(
                    "{name} {version}, which {path} names, is not among the packages any more; {relock}"
                ),
            }
        }
        if let Some(name) = found.packages.keys().find(|name| !self.packages.contains_key(*name)) {
            bail!("{name} is needed now, but {path} does not name it; {relock}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: &str =
        "aa11  libc6_2.41-12+deb13u4_amd64.deb\nbb22  busybox-static_1%3a1.37.0-6+b9_amd64.deb\n";

    fn lock() -> Lock {
        Lock::of_downloads("trixie extract busybox-static", SUMS).unwrap()
    }

    #[test]
    fn downloads_become_a_lock_that_is_read_back() {
        let text = "# trixie extract busybox-static\nbusybox-static:amd64 1:1.37.0-6+b9 bb22\n\
                    libc6:amd64 2.41-12+deb13u4 aa11\n";
        assert_eq!(lock().text(), text);
        assert_eq!(Lock::parse(text).unwrap(), lock());
        assert!(Lock::of_downloads("x", "").is_err() && Lock::of_downloads("x", "aa  README\n").is_err());
        assert!(Lock::parse("libc6:amd64 2.41 aa11\n").is_err());
        assert!(Lock::parse("# x\nlibc6:amd64 2.41\n").unwrap_err().to_string().starts_with("line 2"));
    }

    #[test]
    fn apt_is_told_the_versions() {
        let expected = "Package: busybox-static\nPin: version 1:1.37.0-6+b9\nPin-Priority: 1001\n\n";
        assert!(lock().preferences().starts_with(expected));
    }

    #[test]
    fn what_differs_is_named_with_the_way_out() {
        let check = |from: &str, to: &str, expected: &str| {
            let found = Lock::of_downloads("trixie", &SUMS.replace(from, to)).unwrap();
            let error = lock().compare(&found, Path::new("build/x.lock")).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{expected}; run ./bulkhead image --relock to take what the mirror has now")
            );
        };
        lock().compare(&lock(), Path::new("build/x.lock")).unwrap();
        check(
            "2.41-12+deb13u4",
            "2.41-12+deb13u5",
            "libc6:amd64 2.41-12+deb13u4, which build/x.lock names, vanished from the mirror: it has 2.41-12+deb13u5",
        );
        check(
            "aa11",
            "aa12",
            "libc6:amd64 2.41-12+deb13u4: build/x.lock has the SHA-256 aa11, the mirror's file has aa12",
        );
        check(
            "libc6",
            "libc7",
            "libc6:amd64 2.41-12+deb13u4, which build/x.lock names, is not among the packages any more",
        );
        check(
            "aa11",
            "aa11  new_1_amd64.deb\naa11",
            "new:amd64 is needed now, but build/x.lock does not name it",
        );
    }
}
