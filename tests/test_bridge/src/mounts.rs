//! What is mounted, in every mount namespace, out of a proc file system.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::processes::{link, numbers};

/// A mount namespace, as one of its processes sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct View {
    /// The process's program.
    pub program: String,
    /// Mount points with the kind and source of their file systems, sorted.
    pub mounts: Vec<String>,
}

/// What each process sees, each namespace once. One that ends meanwhile is left out.
///
/// # Errors
/// `proc` cannot be listed.
pub fn snapshot(proc: &Path) -> io::Result<Vec<View>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut views: Vec<View> = numbers(proc)?
        .filter_map(|pid| {
            let folder = proc.join(pid.to_string());
            if !seen.insert(link(&folder.join("ns/mnt"))) {
                return None;
            }
            let text = fs::read_to_string(folder.join("mountinfo")).ok()?;
            Some(View { program: link(&folder.join("exe")), mounts: points(&text) })
        })
        .collect();
    views.sort();
    Ok(views)
}

/// Reads `mountinfo` (proc_pid_mountinfo(5)): the fifth word, and two of those behind the dash.
fn points(text: &str) -> Vec<String> {
    let mut points: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut after = after.split(' ');
            Some(format!("{} {} {}", before.split(' ').nth(4)?, after.next()?, after.next()?))
        })
        .collect();
    points.sort();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let text = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    22 1 0:21 / /a rw - proc none rw\nodd\n";
        assert_eq!(points(text), ["/a proc none", "/mnt2 ext3 /dev/root"]);
    }

    #[test]
    fn this_machine_has_a_root() {
        let views = snapshot(Path::new("/proc")).unwrap();
        assert!(views.iter().any(|view| view.mounts.iter().any(|mount| mount.starts_with("/ "))));
    }
}
