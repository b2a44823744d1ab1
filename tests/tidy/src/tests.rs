mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

/// Folders that hold crates.
const ROOMS: &[&str] = &["firmware", "image", "policy", "tests", "ui", "vpn", "zones"];

/// Everything else that git may track at the top.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "bulkhead",
    "clippy.toml",
    "docs",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

/// Crates that may hold unsafe code, each with a reason at its top.
const ISLANDS: &[&str] = &["agent", "desktop", "fw_hal", "jail", "vm_kvm", "zone_fw"];

/// Who may not depend on whom: (crate, forbidden dependency).
const FORBIDDEN: &[(&str, &str)] = &[
    ("devices", "vm_kvm"),
    ("devices", "zone_protocol"),
    ("tunnel", "vpnd"),
    ("tunnel", "rustix"),
    ("desktop_model", "slint"),
    ("policy", "rustix"),
    ("preauth", "fw_hal"),
];

/// Lines of one source file, tests apart.
const LONGEST_FILE: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn tracked() -> Vec<String> {
    let output = std::process::Command::new("git").arg("ls-files").current_dir(root()).output();
    let text = output.map(|output| String::from_utf8(output.stdout).unwrap()).unwrap_or_default();
    let files: Vec<String> =
        text.lines().filter(|file| root().join(file).exists()).map(str::to_owned).collect();
    assert!(files.len() > 50, "git ls-files lists {} files: run the tests in a git checkout", files.len());
    files
}

/// Crates by name, with their folder and manifest.
fn crates() -> BTreeMap<String, (PathBuf, DocumentMut)> {
    let mut crates = BTreeMap::new();
    for room in ROOMS {
        for entry in fs::read_dir(root().join(room)).unwrap() {
            let folder = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
            let manifest: DocumentMut = text.parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap().to_owned();
            crates.insert(name, (folder, manifest));
        }
    }
    crates
}

/// Dependencies of every target, those of single targets among them.
fn dependencies(manifest: &DocumentMut, table: &str) -> Vec<(String, bool)> {
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let of_targets =
        targets.into_iter().flat_map(|targets| targets.iter()).map(|(_, target)| target.get(table));
    of_targets
        .chain([manifest.get(table)])
        .flatten()
        .filter_map(|table| table.as_table())
        .flat_map(|table| table.iter())
        .map(|(name, item)| {
            let from_workspace = item.get("workspace").and_then(|value| value.as_bool()) == Some(true);
            (name.to_owned(), from_workspace)
        })
        .collect()
}

fn sources() -> Vec<(String, String)> {
    tracked()
        .into_iter()
        .filter(|file| file.ends_with(".rs"))
        .map(|file| {
            let text = fs::read_to_string(root().join(&file)).unwrap();
            (file, text)
        })
        .collect()
}

#[test]
fn top_level_holds_only_the_named_rooms() {
    let found: BTreeSet<String> =
        tracked().iter().map(|file| file.split('/').next().unwrap().to_owned()).collect();
    let allowed: BTreeSet<String> = ROOMS.iter().chain(TOP).map(|name| (*name).to_owned()).collect();
    let strangers: Vec<_> = found.difference(&allowed).collect();
    assert!(strangers.is_empty(), "not allowed at the top: {strangers:?}");
}

#[test]
fn every_room_says_what_lives_in_it() {
    for room in ROOMS {
        let text = fs::read_to_string(root().join(room).join("README.md")).unwrap_or_default();
        assert!(text.lines().count() >= 5, "{room}/README.md is missing or too short");
        assert!(text.contains("never"), "{room}/README.md does not say what the room must never do");
    }
}

#[test]
fn every_crate_takes_lints_and_dependencies_from_the_workspace() {
    for (name, (folder, manifest)) in crates() {
        assert_eq!(
            folder.file_name().unwrap().to_str(),
            Some(if name == "builder" { "builder" } else { name.as_str() }),
            "folder and crate have one name"
        );
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{name}: [lints] workspace = true");
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, from_workspace) in dependencies(&manifest, table) {
                assert!(from_workspace, "{name}: {dependency} is not taken from the workspace");
            }
        }
    }
}

#[test]
fn every_dependency_of_the_table_is_used_and_has_a_reason() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: DocumentMut = text.parse().unwrap();
    let used: BTreeSet<String> = crates()
        .values()
        .flat_map(|(_, manifest)| {
            ["dependencies", "dev-dependencies", "build-dependencies"]
                .map(|table| dependencies(manifest, table))
        })
        .flatten()
        .map(|(name, _)| name)
        .collect();
    for (name, item) in manifest["workspace"]["dependencies"].as_table().unwrap() {
        assert!(used.contains(name), "{name} stands in the workspace's table, but nobody uses it");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap();
        let ours = item.get("path").is_some();
        assert!(ours || line.contains(" # "), "{name}: a dependency says why it is there");
    }
}

#[test]
fn dependencies_point_the_allowed_way() {
    let crates = crates();
    let tests: BTreeSet<&String> = crates
        .iter()
        .filter(|(_, (folder, _))| folder.starts_with(root().join("tests")))
        .map(|(name, _)| name)
        .collect();
    for (name, (_, manifest)) in &crates {
        for (dependency, _) in dependencies(manifest, "dependencies") {
            assert!(
                !FORBIDDEN.contains(&(name.as_str(), dependency.as_str())),
                "{name} must not depend on {dependency}"
            );
            assert!(
                tests.contains(name) || !tests.contains(&dependency),
                "{name} depends on {dependency}: nothing outside tests/ uses tests/"
            );
        }
    }
}

#[test]
fn unsafe_code_stays_on_its_islands() {
    for (file, text) in sources() {
        // Split, so that this file does not find itself.
        let admits = ["expect(", "expect(\n    "]
            .iter()
            .any(|before| text.contains(&format!("{before}{}", concat!("unsafe", "_code"))));
        if !admits {
            continue;
        }
        let name = file.split('/').nth(1).unwrap();
        assert!(ISLANDS.contains(&name), "{file} admits unsafe code, but {name} is no island");
        assert!(text.contains("reason ="), "{file} admits unsafe code without a reason");
    }
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    for (file, text) in sources() {
        let name = file.rsplit('/').next().unwrap();
        let is_test = file.contains("/tests/") || file.contains("tests.rs") || name == "build.rs";
        if is_test || text.starts_with("//!") || text.starts_with("#!") {
            continue;
        }
        panic!("{file} has no module header");
    }
}

#[test]
fn no_file_outgrows_a_reader() {
    for (file, text) in sources() {
        let lines = text.lines().take_while(|line| *line != "mod tests {").count();
        if !file.contains("tests") {
            assert!(lines <= LONGEST_FILE, "{file} has {lines} lines, at most {LONGEST_FILE} are allowed");
        }
    }
}

#[test]
fn no_mod_files_and_no_leftovers() {
    // Split, so that this file does not find itself.
    let leftovers =
        [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("XX", "X:")];
    for (file, text) in sources() {
        assert!(!file.ends_with("/mod.rs"), "{file}: write foo.rs beside foo/");
        for leftover in leftovers {
            assert!(!text.contains(leftover), "{file} contains {leftover}");
        }
    }
}
