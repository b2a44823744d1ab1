use std::path::PathBuf;

use super::*;

/// A folder that looks like the file system of groups, but does not make files in new folders by itself.
struct Ground(PathBuf);

impl Ground {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("init-groups-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) {
        std::fs::write(self.0.join(name), "").unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const LIMITS: Limits = Limits { memory_mib: 3, tasks: 7, weight: 100 };

const FILES: [&str; 5] = ["memory.max", "memory.oom.group", "pids.max", "cpu.weight", "io.bfq.weight"];

#[test]
fn limits_are_written_in_the_kernels_units() {
    let ground = Ground::new("limits");
    for file in FILES {
        ground.file(file);
    }
    fill(&ground.0, LIMITS).unwrap();
    let values = FILES.map(|file| ground.read(file));
    assert_eq!(values, ["3145728", "1", "7", "100", "100"]);
}

#[test]
fn a_missing_controller_or_limit_stops_everything_and_leaves_no_group() {
    let ground = Ground::new("missing");
    let error = Groups::within(&ground.0).unwrap_err();
    assert!(format!("{error:#}").starts_with("switch the controller cpu on"), "{error:#}");
    ground.file("cgroup.subtree_control");
    let groups = Groups::within(&ground.0).unwrap();
    // No controller made its files in the new group.
    let error = groups.make("zone-1", LIMITS).unwrap_err();
    assert!(format!("{error:#}").contains("memory.max"), "{error:#}");
    assert!(!ground.0.join("zone-1").exists());
}
