use super::*;

#[test]
fn addresses_are_parsed() {
    assert_eq!(parse_mac("52:54:00:12:34:56\n"), Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    for text in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:xx"] {
        assert_eq!(parse_mac(text), None, "{text}");
    }
}

/// With the hook in place the stack hears nothing any more, and a packet socket still hears everything.
#[test]
fn the_stack_is_deaf_and_the_packet_socket_is_not() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let heard = |drop_all: bool| {
        let namespace = NetworkNamespace::fresh().unwrap();
        namespace.within(|| {
            let socket = Socket::open().unwrap();
            socket.request(Message::set_up(1)).unwrap();
            if drop_all {
                socket.request(Message::add_hooks(1))?;
                socket.request(Message::drop_ingress(1))?;
            }
            let packets = jail::host::packet_socket(1).unwrap();
            let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            receiver.set_nonblocking(true).unwrap();
            let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
            // Loopback delivers before the call returns or soon after; the packet socket tells when.
            let mut polled = [rustix::event::PollFd::new(&packets, rustix::event::PollFlags::IN)];
            let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            rustix::event::poll(&mut polled, Some(&second)).unwrap();
            let frame = rustix::io::read(&packets, &mut [0_u8; 128]).is_ok();
            let mut polled = [rustix::event::PollFd::new(&receiver, rustix::event::PollFlags::IN)];
            let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            rustix::event::poll(&mut polled, Some(&moment)).unwrap();
            std::io::Result::Ok((frame, receiver.recv(&mut [0; 16]).is_ok()))
        })
    };
    assert_eq!(heard(false).unwrap().unwrap(), (true, true));
    match heard(true).unwrap() {
        Ok(result) => assert_eq!(result, (true, false)),
        Err(error) => eprintln!("skipped: this kernel has no ingress hook with matchall: {error}"),
    }
}
