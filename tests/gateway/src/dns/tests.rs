use super::*;

fn lookup(name: &str) -> Option<Vec<IpAddr>> {
    (name == "both.example").then(|| vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()])
}

#[test]
fn each_type_gets_its_own_addresses() {
    let v4 = answer(&build_query(7, "Both.Example", TYPE_A), lookup).unwrap();
    assert_eq!(&v4[..8], &[0, 7, 0x85, 0x80, 0, 1, 0, 1]);
    assert_eq!(&v4[v4.len() - 4..], &[192, 0, 2, 1]);
    let v6 = answer(&build_query(7, "both.example", TYPE_AAAA), lookup).unwrap();
    assert_eq!(&v6[v6.len() - 2..], &[0, 1]);
    let other = answer(&build_query(7, "both.example", 16), lookup).unwrap();
    assert_eq!(&other[2..8], &[0x85, 0x80, 0, 1, 0, 0], "no data, but the name exists");
}

#[test]
fn unknown_names_do_not_exist() {
    let response = answer(&build_query(9, "www.example.com", TYPE_A), lookup).unwrap();
    assert_eq!(response[3] & 0x0f, 3);
}

#[test]
fn every_truncation_is_ignored() {
    let query = build_query(1, "both.example", TYPE_A);
    for length in 0..query.len() {
        assert_eq!(parse_query(&query[..length]), None, "length {length}");
    }
    let mut response = query;
    response[2] |= 0x80;
    assert_eq!(parse_query(&response), None, "a response is no query");
}
