use super::*;

fn text(request: &Request, at: usize) -> String {
    let rest = request.page.memory.0.get(at..).unwrap();
    let end = rest.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(rest[..end].to_vec()).unwrap()
}

#[test]
fn a_table_has_the_kernels_layout() {
    let mut request = Request::new("slot-3").unwrap();
    request.target(2048, (7, 5), ":64:logon:bulkhead:slot-3");
    let page = &request.page.memory.0;
    // Version 4.0.0, size of everything, where the target begins.
    let words: Vec<u32> =
        page[..24].chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [4, 0, 0, 4096, 312, 1]);
    assert_eq!(text(&request, 48), "slot-3");
    assert_eq!(page[HEADER..HEADER + 16], [0_u64.to_ne_bytes(), 2048_u64.to_ne_bytes()].concat());
    assert_eq!(text(&request, HEADER + 24), "crypt");
    assert_eq!(
        text(&request, HEADER + 40),
        "aes-xts-plain64 :64:logon:bulkhead:slot-3 0 7:5 0 3 allow_discards no_read_workqueue no_write_workqueue"
    );
}

#[test]
fn keys_differ_and_are_not_printed() {
    let (one, two) = (Key::random().unwrap(), Key::random().unwrap());
    assert_ne!(one.bytes(), two.bytes());
    assert_eq!((one.bytes().len(), format!("{one:?}").as_str()), (KEY_SIZE, "Key"));
}

#[test]
fn what_cannot_be_a_disk_is_refused_before_anything_is_made() {
    let key = Key::random().unwrap();
    let file: File = rustix::fs::memfd_create("backing", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into();
    assert!(matches!(CryptDisk::open("slot-0", &file, &key), Err(OpenCryptError::Size(0))));
    file.set_len(1000).unwrap();
    assert!(matches!(CryptDisk::open("slot-0", &file, &key), Err(OpenCryptError::Size(1000))));
    file.set_len(1024).unwrap();
    assert!(matches!(CryptDisk::open("slot 0", &file, &key), Err(OpenCryptError::Name(_))));
    assert!(matches!(CryptDisk::open(&"x".repeat(128), &file, &key), Err(OpenCryptError::Name(_))));
}
