use handover::record::{Header, LONGEST, LONGEST_NAME, encode};

use super::*;

#[test]
fn a_session_is_account_home_and_unit() {
    let all = credentials(Some("anna-2"), &["/srv/a".to_owned(), "/srv/b".to_owned()]).unwrap();
    let expected = [
        ("bulkhead.user", "anna-2"),
        ("sysusers.extra", "u anna-2 1000 - /home/anna-2 /bin/bash\n"),
        ("tmpfiles.extra", "C /home/anna-2 0700 anna-2 anna-2 - /etc/skel\n"),
        ("systemd.unit-dropin.bulkhead-session.service", "[Service]\nUser=anna-2\n"),
        ("bulkhead.keep", "/srv/a:/srv/b"),
    ];
    assert_eq!(all, expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn without_a_user_nothing_opens_a_session() {
    assert_eq!(credentials(None, &[]).unwrap(), []);
    let kept = credentials(None, &["/srv".to_owned()]).unwrap();
    assert_eq!(kept, [("bulkhead.keep", "/srv".to_owned())]);
}

#[test]
fn only_plain_names_get_into_files() {
    assert!(is_user("a") && is_user(&"a".repeat(LONGEST_USER)));
    for bad in
        ["", "1a", "-a", "A", "a b", "a\nu root 0", "a:b", "a/b", "a.b", "ä", "a_b", "a%i", &"a".repeat(32)]
    {
        assert_eq!(credentials(Some(bad), &[]), Err(NoUser(bad.to_owned())), "{bad:?}");
    }
}

/// The longest that a policy can say goes into a record, and a record into the firmware's tables.
#[test]
fn the_longest_fits_a_record() {
    let keep = vec![format!("/{}", "x".repeat(keep::LONGEST - 1)); keep::MOST];
    let all = credentials(Some(&"a".repeat(LONGEST_USER)), &keep).unwrap();
    let pairs: Vec<(&str, &[u8])> = all.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    assert!(pairs.iter().all(|(name, _)| name.len() <= LONGEST_NAME));
    let header = Header { no_vtpm_yet: false, nonce: [0; 32], identity: [0; 32] };
    let length = encode(&header, &pairs, &mut [0; LONGEST]).unwrap();
    assert!(length < LONGEST / 2, "{length}");
}
