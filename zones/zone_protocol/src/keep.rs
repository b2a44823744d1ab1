//! How a zone's agent learns which folders lie on the private disk: one word of the kernel's command line,
//! `bulkhead.keep=/var/lib/app:/srv/data`, which `zoned` makes from the policy.
//!
//! The agent's first process needs it before anything of the zone runs. The policy's rules are stricter than what is
//! checked here: the reader relies on nobody and takes only what cannot lead it elsewhere.

/// What the word begins with.
pub const PARAMETER: &str = "bulkhead.keep=";

/// The most folders, and the longest path in bytes.
pub const MOST: usize = 8;
/// See [`MOST`].
pub const LONGEST: usize = 64;

/// The word for these folders, with a blank before it; nothing when there are none.
#[must_use]
pub fn word(folders: &[String]) -> String {
    if folders.is_empty() { String::new() } else { format!(" {PARAMETER}{}", folders.join(":")) }
}

/// A path in the word that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The word has too many of them.
    #[error("{0} folders to keep, at most {MOST} are taken")]
    Many(usize),
    /// Not an absolute path of plain parts.
    #[error("folder to keep {0:?} is no absolute path of plain parts")]
    Path(String),
}

/// The folders of the last such word on a command line: `zoned` writes its word behind the template's.
///
/// # Errors
/// [`KeepError`]: then none is taken.
pub fn read(command_line: &str) -> Result<Vec<String>, KeepError> {
    let words = command_line.split_ascii_whitespace();
    let Some(value) = words.filter_map(|word| word.strip_prefix(PARAMETER)).next_back() else {
        return Ok(Vec::new());
    };
    let folders: Vec<String> = value.split(':').map(str::to_owned).collect();
    if folders.len() > MOST {
        return Err(KeepError::Many(folders.len()));
    }
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
    fn a_word_is_read_as_it_was_made() {
        let folders = ["/var/lib/app".to_owned(), "/srv/a.b_c+d@e-f".to_owned()];
        let line = format!("quiet panic=-1{}\n", word(&folders));
        assert_eq!(line, "quiet panic=-1 bulkhead.keep=/var/lib/app:/srv/a.b_c+d@e-f\n");
        assert_eq!(read(&line).unwrap(), folders);
        assert_eq!(word(&[]), "");
        assert_eq!(read("quiet").unwrap(), [""; 0]);
        assert_eq!(read(&format!("bulkhead.keep=/opt {line}")).unwrap(), folders);
    }

    #[test]
    fn what_could_lead_elsewhere_is_not_taken() {
        for bad in ["", "srv", "/", "/srv/", "/srv//a", "/srv/../etc", "/./a", "/srv/a=b", "/srv/ä", "/srv:"]
        {
            assert!(matches!(read(&format!("bulkhead.keep={bad}")), Err(KeepError::Path(_))), "{bad}");
        }
        let long = format!("bulkhead.keep=/{}", "x".repeat(LONGEST));
        assert!(matches!(read(&long), Err(KeepError::Path(_))));
        assert_eq!(read(&format!("bulkhead.keep={}", ["/a"; 9].join(":"))), Err(KeepError::Many(9)));
    }
}
