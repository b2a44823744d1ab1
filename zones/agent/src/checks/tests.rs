//! The built-in checks against this machine and a small server.

use std::net::TcpListener;

use super::*;

fn check(name: &str, arguments: &[&str]) -> Outcome {
    run(name, &arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

#[test]
fn addresses_of_pages_are_read() {
    let url = |host: &str, port, path: &str| Ok(Url { host: host.into(), port, path: path.into() });
    let cases = [
        ("http://intranet.example/", url("intranet.example", 80, "/")),
        ("http://intranet.example", url("intranet.example", 80, "/")),
        ("http://10.0.0.1:8080/a?b=c", url("10.0.0.1", 8080, "/a?b=c")),
        ("http://[fd00::1]:81/x", url("[fd00::1]", 81, "/x")),
        ("http://[fd00::1]/x", url("[fd00::1]", 80, "/x")),
    ];
    for (text, expected) in cases {
        assert_eq!(Url::parse(text), expected, "{text}");
    }
    for text in ["https://x/", "http://", "http:///x", "http://a:b/", "http://a/\r\nX: y", "http://a b/"] {
        assert!(Url::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_page_is_fetched_as_soon_as_it_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        // Answers that are none come first: the check goes on trying.
        for answer in ["nonsense", "HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let url = format!("http://127.0.0.1:{port}/page");
    assert_eq!(check("fetch", &[&url, "20"]), Ok((true, "hello".to_owned())));
    server.join().unwrap();
    let (passed, output) = check("fetch", &[&url, "0"]).unwrap();
    assert!(!passed && output.contains("refused"), "{output}");
}

#[test]
fn latency_is_the_time_of_a_fetch() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let _request = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nx").unwrap();
        }
    });
    let url = format!("http://127.0.0.1:{port}/");
    let (passed, output) = check("latency", &[&url, "3"]).unwrap();
    server.join().unwrap();
    assert!(passed && output.starts_with("median ") && output.contains(" us, slowest "), "{output}");
    // Nobody answers any more.
    assert!(!check("latency", &[&url, "1"]).unwrap().0);
    assert!(check("latency", &[&url, "0"]).is_err() && check("latency", &[&url, "1001"]).is_err());
}

#[test]
fn a_page_is_fetched_over_ipv6_too() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let count = stream.read(&mut request).unwrap();
        assert!(request[..count].starts_with(b"GET / HTTP/1.1\r\nHost: [::1]\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nsix").unwrap();
    });
    let url = format!("http://[::1]:{port}/");
    assert_eq!(check("fetch", &[&url, "20"]), Ok((true, "six".to_owned())));
    server.join().unwrap();
}

#[test]
fn this_machine_is_described() {
    assert_eq!(check("resolve", &["127.0.0.1", "0"]), Ok((true, "127.0.0.1\n".to_owned())));
    let (passed, output) = check("interfaces", &[]).unwrap();
    assert!(passed && output.lines().any(|line| line.starts_with("lo ") && line.contains("127.0.0.1/8")));
    assert!(check("uptime", &[]).unwrap().1.ends_with(" ms\n"));
}

#[test]
fn a_log_record_is_its_text() {
    assert_eq!(text_of(b"6,339,5140900,-;NET: Registered; yes\n SUBSYSTEM=net\n"), b"NET: Registered; yes\n");
    assert_eq!(text_of(b"no numbers"), b"no numbers");
}

#[test]
fn what_is_no_check_is_refused() {
    for name in ["", "../../bin/sh", "A", "a b", "a/b", "a.b"] {
        assert!(check(name, &[]).unwrap_err().contains("is no name of a check"), "{name}");
    }
    let error = check("no-such-check", &[]).unwrap_err();
    assert!(error.starts_with("/usr/lib/bulkhead/checks/no-such-check: "), "{error}");
    assert_eq!(
        check("fetch", &["http://a/", "1000"]).unwrap_err(),
        "\"1000\" is no number of seconds up to 150"
    );
    assert_eq!(check("resolve", &[]).unwrap_err(), "usage: resolve NAME [SECONDS]");
}
