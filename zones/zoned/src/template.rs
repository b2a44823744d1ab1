//! Templates on the data disk: opened only when their manifest is signed, as new as this host demands, and true.
//!
//! ```text
//! template.toml + .minisig -- template::verify --> manifest -- version >= the highest used --> kernel, initrd, root
//! ```
//!
//! Kernel and initrd are hashed through the descriptors that the VMM gets. A file that was hashed once is not read
//! again while its inode, size and time of change stay the same: nobody on this host can write there (`init` gives
//! `/data/templates` to root, and to `zoned` read-only), and a change from outside the running host ends this
//! process's memory. What that does not see is a disk that answers two reads of the same block
//! differently. The root image is not hashed here: dm-verity checks each block in the zone, against the hash
//! that the manifest puts on the kernel's command line.
//!
//! The highest version of each template is remembered on the same data disk ([`USED`]). Whoever can write that disk
//! from outside can set it back, and then an older signed template of an allowed epoch starts again; only the epoch in
//! the host image is out of reach of the disk. (The TPM's counters come with trusted login.)

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, fsync, open, renameat, unlinkat};
use rustix::io::Errno;
use template::{
    APPROVAL, FileSum, INITRD, KERNEL, MANIFEST, MAX_SIZE, ROOT, Rules, SIGNATURE, Summer, VerifiedTemplate,
    VerifyError, verify,
};

/// Below the folder of the zones' disks: the highest version of each template, one `name version` a line. No zone's
/// name begins with a dot.
const USED: &str = ".templates-used";

/// The most that such a file may hold.
const MAX_USED: usize = 64 * 1024;

/// Bytes that are hashed at once.
const PIECE: usize = 256 * 1024;

/// Why a template is not used: fragments that follow "Not started: ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    /// A file of the template is not there.
    #[error("template {template:?} is not installed: {path} is missing; run `./bulkhead run` to build it")]
    Missing { template: String, path: String },
    /// The manifest does not verify.
    #[error("template {template:?} is refused: {path}: {source}; run `./bulkhead run` to build it again")]
    Manifest { template: String, path: String, source: VerifyError },
    /// A file is not the one that the manifest names.
    #[error(
        "template {template:?} is refused: {path}: found {found}, allowed are {allowed}; run `./bulkhead run` to \
         build it again"
    )]
    Altered { template: String, path: String, found: String, allowed: String },
    /// The template is older than one that this host has used.
    #[error(
        "template {template:?} is refused: {path}: version: found {found}, allowed is {allowed} or above, which this \
         host has used already; install the newer template again"
    )]
    Older { template: String, path: String, found: u64, allowed: u64 },
    /// The host image does not say who may sign.
    #[error("no template can be checked: {path}: {reason}; build the image again")]
    Rules { path: String, reason: String },
    /// The record of versions makes no sense.
    #[error(
        "no template can be checked: {path}: line {line}: found {found:?}, allowed is a name and a version"
    )]
    Used { path: String, line: usize, found: String },
    /// Any other failure with a file.
    #[error("{path}: {source}; check the data disk")]
    File { path: String, source: io::Error },
}

/// A template that may run.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What was signed.
    pub(crate) manifest: VerifiedTemplate,
    /// The same as bytes, and their signature: `keeper` checks it again.
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// The file for which a zone's TPM gives out what it keeps. The TPM checks it.
    pub(crate) approval: Vec<u8>,
    /// The kernel's file.
    pub(crate) kernel: OwnedFd,
    /// The initrd's file.
    pub(crate) initrd: OwnedFd,
    /// The root image's file.
    pub(crate) root: OwnedFd,
}

/// A manifest, and the bytes that it was read from.
struct Signed {
    manifest: VerifiedTemplate,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// What tells that a file is the same as before: device, inode, size, time of change.
type Identity = (u64, u64, i64, i64, u64);

/// The templates of this host.
#[derive(Debug)]
pub(crate) struct Templates {
    data: PathBuf,
    rules: Result<Rules, (String, String)>,
    /// Files whose hash is known.
    hashed: BTreeMap<Identity, FileSum>,
}

impl Templates {
    /// Reads from the image who may sign; a mistake there refuses every template.
    pub(crate) fn new(data: &Path, rules: &Path) -> Self {
        let parsed = std::fs::read_to_string(rules)
            .map_err(|error| error.to_string())
            .and_then(|text| Rules::parse(&text).map_err(|error| error.to_string()))
            .map_err(|reason| (rules.display().to_string(), reason));
        Self { data: data.to_owned(), rules: parsed, hashed: BTreeMap::new() }
    }

    /// Opens a template. Its version counts as used from now on.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub(crate) fn open(&mut self, name: &str) -> Result<Opened, TemplateError> {
        let folder = self.data.join("templates").join(name);
        let Signed { manifest, signed, signature } = self.manifest(name, &folder)?;
        let used = Used::read(&self.data.join("zones"))?;
        used.check(&manifest, &folder)?;
        let kernel = self.file(name, &folder.join(KERNEL), manifest.kernel)?;
        let initrd = self.file(name, &folder.join(INITRD), manifest.initrd)?;
        let path = folder.join(ROOT);
        let (root, stat) = open_file(name, &path)?;
        check_size(name, &path, &stat, manifest.root.size)?;
        let approval = Self::read(name, &folder, APPROVAL)?;
        used.note(&manifest)?;
        Ok(Opened { manifest, signed, signature, approval, kernel, initrd, root })
    }

    fn manifest(&self, name: &str, folder: &Path) -> Result<Signed, TemplateError> {
        let rules = self
            .rules
            .as_ref()
            .map_err(|(path, reason)| TemplateError::Rules { path: path.clone(), reason: reason.clone() })?;
        let (signed, signature) = (Self::read(name, folder, MANIFEST)?, Self::read(name, folder, SIGNATURE)?);
        let manifest =
            verify(name, &signed, &signature, rules).map_err(|source| TemplateError::Manifest {
                template: name.to_owned(),
                path: folder.join(MANIFEST).display().to_string(),
                source,
            })?;
        Ok(Signed { manifest, signed, signature })
    }

    /// A small file.
    fn read(name: &str, folder: &Path, file: &str) -> Result<Vec<u8>, TemplateError> {
        let path = folder.join(file);
        let (descriptor, _) = open_file(name, &path)?;
        read_all(descriptor, MAX_SIZE).map_err(|source| failed(name, &path, source))
    }

    /// Opens a file that must be exactly the one that the manifest names.
    fn file(&mut self, name: &str, path: &Path, allowed: FileSum) -> Result<OwnedFd, TemplateError> {
        let (file, stat) = open_file(name, path)?;
        check_size(name, path, &stat, allowed.size)?;
        let identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec);
        let found = match self.hashed.get(&identity) {
            Some(found) => *found,
            None => sum(&file).map_err(|source| failed(name, path, source))?,
        };
        if found != allowed {
            return Err(altered(name, path, &found, &allowed));
        }
        self.hashed.insert(identity, found);
        Ok(file)
    }
}

fn check_size(name: &str, path: &Path, stat: &Stat, allowed: u64) -> Result<(), TemplateError> {
    if u64::try_from(stat.st_size) == Ok(allowed) {
        return Ok(());
    }
    Err(altered(name, path, &format!("{} bytes", stat.st_size), &format!("{allowed} bytes")))
}

fn altered(
    name: &str,
    path: &Path,
    found: &dyn std::fmt::Display,
    allowed: &dyn std::fmt::Display,
) -> TemplateError {
    TemplateError::Altered {
        template: name.to_owned(),
        path: path.display().to_string(),
        found: found.to_string(),
        allowed: allowed.to_string(),
    }
}

/// The hash of a file, without moving the position from which the VMM will read.
fn sum(file: &OwnedFd) -> io::Result<FileSum> {
    let mut summer = Summer::default();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        match rustix::io::pread(file, &mut piece, at) {
            Ok(0) => return Ok(summer.finish()),
            Ok(count) => {
                summer.add(piece.get(..count).unwrap_or_default());
                at = at.saturating_add(u64::try_from(count).map_err(io::Error::other)?);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// At most `limit` bytes and one more, so that too long a file shows.
fn read_all(file: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).map_err(io::Error::other)?;
    File::from(file).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file for reading.
fn open_file(name: &str, path: &Path) -> Result<(OwnedFd, Stat), TemplateError> {
    // A FIFO in its place must not hold us up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = open(path, flags, Mode::empty()).map_err(|error| failed(name, path, error.into()))?;
    let stat = fstat(&file).map_err(|error| failed(name, path, error.into()))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(failed(name, path, io::Error::other("no regular file")));
    }
    Ok((file, stat))
}

fn failed(name: &str, path: &Path, source: io::Error) -> TemplateError {
    let path = path.display().to_string();
    if source.kind() == io::ErrorKind::NotFound {
        return TemplateError::Missing { template: name.to_owned(), path };
    }
    TemplateError::File { path, source }
}

/// The highest version of each template that this host has used.
#[derive(Debug)]
struct Used {
    folder: PathBuf,
    versions: BTreeMap<String, u64>,
}

impl Used {
    /// A host that has used none has no such file.
    fn read(folder: &Path) -> Result<Self, TemplateError> {
        let path = folder.join(USED);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let bytes = match open(&path, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|f| read_all(f, MAX_USED))
        {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(TemplateError::File { path: path.display().to_string(), source }),
        };
        let mut versions = BTreeMap::new();
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let entry = line
                .split_once(' ')
                .and_then(|(name, version)| Some((name.to_owned(), version.parse().ok()?)));
            let Some((name, version)) = entry else {
                let path = path.display().to_string();
                return Err(TemplateError::Used {
                    path,
                    line: number + 1,
                    found: line.chars().take(80).collect(),
                });
            };
            versions.insert(name, version);
        }
        Ok(Self { folder: folder.to_owned(), versions })
    }

    fn check(&self, manifest: &VerifiedTemplate, folder: &Path) -> Result<(), TemplateError> {
        match self.versions.get(&manifest.name) {
            Some(allowed) if manifest.version < *allowed => Err(TemplateError::Older {
                template: manifest.name.clone(),
                path: folder.join(MANIFEST).display().to_string(),
                found: manifest.version,
                allowed: *allowed,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers a version that is higher than all before; either the old or the new file survives a power cut.
    fn note(mut self, manifest: &VerifiedTemplate) -> Result<(), TemplateError> {
        if self.versions.get(&manifest.name).is_some_and(|used| *used >= manifest.version) {
            return Ok(());
        }
        self.versions.insert(manifest.name.clone(), manifest.version);
        let text: String =
            self.versions.iter().map(|(name, version)| format!("{name} {version}\n")).collect();
        self.write(text.as_bytes()).map_err(|source| TemplateError::File {
            path: self.folder.join(USED).display().to_string(),
            source,
        })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match rustix::fs::mkdir(&self.folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = open(&self.folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let next = format!("{USED}.next");
        // What a power cut left.
        match unlinkat(&folder, &next, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::openat(&folder, &next, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(bytes)?;
        fsync(file.as_fd())?;
        renameat(&folder, &next, &folder, USED)?;
        fsync(&folder)?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
