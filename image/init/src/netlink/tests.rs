use super::*;

#[test]
fn requests_have_the_kernels_layout() {
    let bytes = Message::move_link(2, 9).finish();
    assert_eq!(bytes.len(), 16 + 16 + 8);
    assert_eq!(bytes[..8], [40, 0, 0, 0, 16, 0, 5, 0]);
    assert_eq!(bytes[16..24], [0, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(bytes[32..], [8, 0, 28, 0, 9, 0, 0, 0]);

    let bytes = Message::drop_ingress(2).finish();
    assert_eq!(bytes[16 + 12..16 + 20], [0xf2, 0xff, 0xff, 0xff, 0, 3, 1, 0]);
    let kind = &bytes[36..52];
    assert_eq!(kind, b"\x0d\0\x01\0matchall\0\0\0\0");
    // options > actions > first > (kind, options > parameters)
    let lengths = [(52, 52, 2), (56, 48, 2), (60, 44, 1), (64, 9, 1)];
    for (place, length, number) in &lengths {
        assert_eq!(bytes[*place], *length, "at {place}");
        assert_eq!(bytes[*place + 2], *number, "at {place}");
    }
}

#[test]
fn answers_are_read() {
    let header = |kind: u8, code: i32| {
        [vec![36, 0, 0, 0, kind, 0, 0, 0], vec![0; 8], code.to_ne_bytes().to_vec()].concat()
    };
    assert!(answer(&header(2, 0)).is_ok());
    assert_eq!(answer(&header(2, -17)).unwrap_err().raw_os_error(), Some(17));
    assert!(answer(&header(3, 0)).is_err());
    assert!(answer(&[1, 2, 3]).is_err());
}

/// The real kernel takes them, in a namespace of their own.
#[test]
fn the_kernel_accepts_the_requests() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let (one, two) =
        (jail::host::NetworkNamespace::fresh().unwrap(), jail::host::NetworkNamespace::fresh().unwrap());
    let number = u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&two))).unwrap();
    one.within(|| {
        let socket = Socket::open().unwrap();
        // Index 1 is lo in every namespace: it may not move, but it can be set up.
        assert_eq!(socket.request(Message::move_link(1, number)).unwrap_err().raw_os_error(), Some(22));
        socket.request(Message::set_up(1)).unwrap();
    })
    .unwrap();
}
