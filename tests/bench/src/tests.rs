use super::*;

fn parsed(words: &[&str]) -> anyhow::Result<Request> {
    parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn arguments_are_read() {
    let check = |words: &[&str], expected| assert_eq!(parsed(words).unwrap(), expected);
    let measure = |names: &[&'static str], rounds, form| {
        Request::Measure(names.to_vec(), Options { rounds, form, profile: false })
    };
    check(&[], measure(&[], 5, Form::Table));
    check(&["--list"], Request::List);
    check(&["zone-start", "--json"], measure(&["zone-start"], 5, Form::Json));
    check(&["--rounds", "7", "trusted-start"], measure(&["trusted-start"], 7, Form::Table));
}

#[test]
fn wrong_arguments_are_named() {
    let check = |words: &[&str], part: &str| {
        let text = parsed(words).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    check(&["tunnel"], "allowed is zone-start, trusted-start");
    check(&["--fast"], "--fast");
    check(&["--rounds", "0"], "from 1 on");
    check(&["--rounds", "many"], "many");
}
