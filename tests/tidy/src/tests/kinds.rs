//! A test's name says its kind, and the name is true: `./bulkhead test --list` and `--skip native_` rely on it.
//!
//! | name begins with | kind | what makes it one |
//! |---|---|---|
//! | `property_` | property | stands in a `proptest!` block |
//! | `native_` | native-kvm | opens this machine's /dev/kvm, itself or through a function of its file or of one above it |
//! | `replay_` | fuzz-replay | stands in `tests/fuzz/tests`, where committed corpora are read |
//! | anything else | unit | none of these |
//!
//! Read line by line: rustfmt puts the end of a block where its beginning was indented.

use super::*;

/// What shows that a function opens this machine's KVM.
const KVM: &str = "\"/dev/kvm\"";

/// Where corpora are replayed.
const REPLAYS: &str = "tests/fuzz/tests/";

/// A function that stands in a file with tests.
#[derive(Debug)]
struct Function {
    name: String,
    /// Whether the test runner calls it.
    test: bool,
    property: bool,
    body: String,
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The functions of a file, with what stands between their first line and the brace below it.
fn functions(text: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut properties: Option<usize> = None;
    let mut test = false;
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        if code.ends_with("proptest! {") {
            properties = Some(indentation(line));
        } else if properties == Some(indentation(line)) && code == "}" {
            properties = None;
        }
        test |= code.starts_with("#[test]");
        let declaration = code.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let Some(rest) = declaration.strip_prefix("fn ") else { continue };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = |later: &&&str| indentation(later) == indentation(line) && later.trim_end().ends_with('}');
        let length = if code.ends_with('}') {
            0
        } else {
            lines[number + 1..].iter().take_while(|later| !end(later)).count()
        };
        let body = lines[number..=number + length].join("\n");
        found.push(Function { name, test, property: properties.is_some(), body });
        test = false;
    }
    found
}

/// Whether `body` calls `name`.
fn calls(body: &str, name: &str) -> bool {
    body.match_indices(&format!("{name}(")).any(|(at, _)| {
        let before = &body[..at];
        !before.ends_with("fn ") && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.')
    })
}

/// Names of the functions that open KVM, directly or by calling one that does.
fn openers<'a>(functions: &[&'a Function]) -> BTreeSet<&'a str> {
    let mut openers: BTreeSet<&str> = BTreeSet::new();
    loop {
        let more: Vec<&str> = functions
            .iter()
            .filter(|function| !openers.contains(function.name.as_str()))
            .filter(|function| {
                function.body.contains(KVM) || openers.iter().any(|opener| calls(&function.body, opener))
            })
            .map(|function| function.name.as_str())
            .collect();
        if more.is_empty() {
            return openers;
        }
        openers.extend(more);
    }
}

/// What is wrong with the names of one crate's tests.
fn wrong_names(files: &[(&str, &str)]) -> Vec<String> {
    let all: Vec<(&str, Vec<Function>)> = files
        .iter()
        .filter(|(_, text)| text.contains("#[test]") || text.contains("proptest! {"))
        .map(|(file, text)| (*file, functions(text)))
        .collect();
    let mut wrong = Vec::new();
    for (file, functions) in &all {
        let above = all.iter().filter(|(other, _)| {
            other.strip_suffix(".rs").is_some_and(|folder| {
                file.strip_prefix(folder).is_some_and(|rest| rest.starts_with(['/', '.']))
            })
        });
        let visible: Vec<&Function> = above.flat_map(|(_, functions)| functions).collect();
        let openers = openers(&visible);
        for function in functions.iter().filter(|function| function.test) {
            let name = function.name.as_str();
            let kinds = [
                ("property_", function.property, "stands in a proptest! block"),
                ("native_", openers.contains(name), "opens /dev/kvm"),
                ("replay_", file.starts_with(REPLAYS), "replays a corpus"),
            ];
            for (prefix, is, what) in kinds {
                match (name.starts_with(prefix), is) {
                    (true, false) => {
                        wrong.push(format!("{file}: {name} is named {prefix}*, but is none that {what}"));
                    }
                    (false, true) => {
                        wrong.push(format!("{file}: {name} {what}: its name begins with {prefix}"));
                    }
                    (true, true) | (false, false) => {}
                }
            }
            // Whole kinds are left out by a part of the name.
            if name.get(1..).is_some_and(|rest| kinds.iter().any(|(prefix, ..)| rest.contains(prefix))) {
                wrong.push(format!("{file}: {name} has a kind's prefix in its middle"));
            }
        }
    }
    wrong
}

#[test]
fn a_tests_name_says_its_kind() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (folder, _) in crates().values() {
        let folder = folder.strip_prefix(root()).unwrap().to_str().unwrap().to_owned() + "/";
        let files: Vec<(&str, &str)> = sources
            .iter()
            .filter(|(file, _)| file.starts_with(&folder) && !file.starts_with("tests/tidy/"))
            .map(|(file, text)| (file.as_str(), text.as_str()))
            .collect();
        wrong.extend(wrong_names(&files));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_that_lie_about_their_kind_are_found() {
    let check = |file: &str, text: &str, expected: &[&str]| {
        let found = wrong_names(&[(file, text)]);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (sentence, part) in found.iter().zip(expected) {
            assert!(sentence.contains(part), "{sentence}");
        }
    };
    let file = "zones/x/src/tests.rs";
    check(file, "#[test]\nfn adds() {\n    one();\n}\n", &[]);
    check(file, "#[test]\nfn property_adds() {\n}\n", &["none that stands in a proptest! block"]);
    check(file, "proptest! {\n    #[test]\n    fn adds(a: u8) {\n    }\n}\n", &["begins with property_"]);
    check(file, "proptest! {\n    #[test]\n    fn property_adds(a: u8) {\n    }\n}\n", &[]);
    check(
        file,
        "proptest! {\n    #[test]\n    fn property_adds(a: u8) {\n    }\n}\n#[test]\nfn zero() {\n}\n",
        &[],
    );
    let helper = "fn kvm() {\n    open(\"/dev/kvm\");\n}\nfn machine() {\n    kvm();\n}\n";
    check(
        file,
        &format!("{helper}#[test]\nfn boots() {{\n    machine();\n}}\n"),
        &["boots opens /dev/kvm: its name begins with native_"],
    );
    check(file, &format!("{helper}#[test]\nfn native_boots() {{\n    machine();\n}}\n"), &[]);
    check(
        file,
        &format!("{helper}#[test]\nfn native_adds() {{\n    my_machine();\n    a.machine();\n}}\n"),
        &["none that opens /dev/kvm"],
    );
    check(file, "#[test]\nfn replay_disk() {\n    replay(1);\n}\n", &["none that replays a corpus"]);
    check("tests/fuzz/tests/replay.rs", "#[test]\nfn replay_disk() {\n    replay(1);\n}\n", &[]);
    check(
        "tests/fuzz/tests/replay.rs",
        "#[test]\nfn disk() {\n    replay(1);\n}\n",
        &["begins with replay_"],
    );
    check(file, "#[test]\nfn an_alternative_native_way() {\n}\n", &["in its middle"; 1]);
}
