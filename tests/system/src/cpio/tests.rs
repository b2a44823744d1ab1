use super::*;

fn entry(path: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let (size, name) = (content.len(), path.len() + 1);
    for value in
        [1, mode, 0, 0, 1, 0, u32::try_from(size).unwrap(), 0, 0, 0, 0, u32::try_from(name).unwrap(), 0]
    {
        bytes.extend_from_slice(format!("{value:08X}").as_bytes());
    }
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn entries_of_all_segments_are_read() {
    let mut archive = entry("bin", 0o040_755, b"");
    archive.extend(entry("./bin/sh", 0o100_755, b"#!x"));
    archive.extend(entry("TRAILER!!!", 0, b""));
    archive.resize(1024, 0);
    archive.extend(entry("etc/x", 0o100_644, b"12345"));
    archive.extend(entry("TRAILER!!!", 0, b""));
    let entries = read(&archive).unwrap();
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["bin", "bin/sh", "etc/x"]);
    assert!(entries[1].is_executable() && entries[1].looks_like_a_program());
    assert!(!entries[0].is_executable() && !entries[2].looks_like_a_program());
    assert_eq!(entries[2].content, b"12345");
}

#[test]
fn what_is_no_archive_is_an_error() {
    assert!(read(b"\x1f\x8b compressed").is_err());
    let archive = entry("a", 0o100_644, b"content");
    assert!(read(&archive[..archive.len() - 8]).is_err());
    assert_eq!(read(&[0; 512]).unwrap(), []);
}

#[test]
fn a_single_file_is_read_back() {
    let archive = single("etc/bulkhead/policy.toml", b"version = 2").unwrap();
    let expected = Entry {
        path: "etc/bulkhead/policy.toml".to_owned(),
        mode: 0o100_644,
        content: b"version = 2".to_vec(),
    };
    assert_eq!(read(&archive).unwrap(), [expected]);
}
