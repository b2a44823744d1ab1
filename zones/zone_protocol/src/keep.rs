//! How a zone's agent learns which folders lie on the private disk: the credential `bulkhead.keep`
//! ([`crate::login::KEEP`]), paths with colons between them.
//!
//! The agent's first process needs it before anything of the zone runs. The policy's rules are stricter than what is
//! checked here: the reader relies on nobody and takes only what cannot lead it elsewhere.

/// The most folders, and the longest path in bytes.
pub const MOST: usize = 8;
/// See [`MOST`].
pub const LONGEST: usize = 64;

/// The value for these folders.
#[must_use]
pub fn value(folders: &[String]) -> String {
    folders.join(":")
}

/// A value that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// Not what a path can be made of.
    #[error("folders to keep that are no text")]
    Text,
    /// It has too many of them.
    #[error("{0} folders to keep, at most {MOST} are taken")]
    Many(usize),
    /// Not an absolute path of plain parts.
    #[error("folder to keep {0:?} is no absolute path of plain parts")]
    Path(String),
}

/// The folders of a value.
///
/// # Errors
/// [`KeepError`]: then none is taken.
pub fn read(value: &[u8]) -> Result<Vec<String>, KeepError> {
    let value = str::from_utf8(value).map_err(|_bytes| KeepError::Text)?;
    let count = value.split(':').count();
    if count > MOST {
        return Err(KeepError::Many(count));
    }
    let folders: Vec<String> = value.split(':').map(str::to_owned).collect();
    match folders.iter().find(|folder| !is_plain(folder)) {
        Some(bad) => Err(KeepError::Path(bad.clone())),
        None => Ok(folders),
    }
}

fn is_plain(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+@-".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    path.len() <= LONGEST && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_made() {
        let folders = ["/var/lib/app".to_owned(), "/srv/a.b_c+d@e-f".to_owned()];
        assert_eq!(value(&folders), "/var/lib/app:/srv/a.b_c+d@e-f");
        assert_eq!(read(value(&folders).as_bytes()).unwrap(), folders);
    }

    #[test]
    fn what_could_lead_elsewhere_is_not_taken() {
        for bad in
            ["", "srv", "/", "/srv/", "/srv//a", "/srv/../etc", "/./a", "/srv/a=b", "/srv/ä", "/srv:", "/a b"]
        {
            assert!(matches!(read(bad.as_bytes()), Err(KeepError::Path(_))), "{bad}");
        }
        let long = format!("/{}", "x".repeat(LONGEST));
        assert!(matches!(read(long.as_bytes()), Err(KeepError::Path(_))));
        assert_eq!(read(["/a"; 9].join(":").as_bytes()), Err(KeepError::Many(9)));
        assert_eq!(read(b"/\xff"), Err(KeepError::Text));
    }
}
