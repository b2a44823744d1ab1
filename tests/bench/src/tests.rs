use super::*;

fn parsed(words: &[&str]) -> anyhow::Result<Options> {
    parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn arguments_are_read() {
    let check = |words: &[&str], expected| assert_eq!(parsed(words).unwrap(), expected);
    check(&[], Options { rounds: 5, form: Form::Table });
    check(&["zone-start", "--json"], Options { rounds: 5, form: Form::Json });
    check(&["--rounds", "7"], Options { rounds: 7, form: Form::Table });
}

#[test]
fn wrong_arguments_are_named() {
    let check = |words: &[&str], part: &str| {
        let text = parsed(words).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    check(&["tunnel"], "allowed is zone-start");
    check(&["--fast"], "--fast");
    check(&["--rounds", "2"], "at least 3");
    check(&["--rounds", "many"], "many");
}
