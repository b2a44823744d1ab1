use super::*;

#[test]
fn message_and_descriptors_arrive_in_order() {
    let (a, b) = Channel::pair().unwrap();
    let (one, two) = Channel::pair().unwrap();
    a.send(&("start", 7_u32), &[one.as_fd(), two.as_fd()]).unwrap();
    let ((word, number), mut descriptors): ((String, u32), _) = b.receive().unwrap();
    assert_eq!((word.as_str(), number, descriptors.len()), ("start", 7, 2));
    let second = Channel::from_descriptor(descriptors.pop().unwrap());
    one.send(&1_u8, &[]).unwrap();
    let (byte, _): (u8, _) = second.receive().unwrap();
    assert_eq!(byte, 1);
}

#[test]
fn wrong_type_and_trailing_bytes_are_malformed_and_consumed() {
    let (a, b) = Channel::pair().unwrap();
    a.send(&[1_u8, 2, 3], &[]).unwrap();
    a.send(&5_u8, &[]).unwrap();
    assert!(matches!(b.receive::<u8>(), Err(ReceiveError::Malformed)));
    assert_eq!(b.receive::<u8>().unwrap().0, 5);
}

#[test]
fn too_large_is_refused_before_sending() {
    let (a, b) = Channel::pair().unwrap();
    b.set_nonblocking().unwrap();
    assert!(matches!(a.send(&vec![0_u8; MAX_MESSAGE], &[]), Err(SendError::TooLarge)));
    assert!(matches!(b.receive::<Vec<u8>>(), Err(ReceiveError::WouldBlock)));
}

#[test]
fn closed_peer_is_told_apart() {
    let (a, b) = Channel::pair().unwrap();
    drop(b);
    assert!(matches!(a.receive::<u8>(), Err(ReceiveError::Closed)));
    assert!(matches!(a.send(&1_u8, &[]), Err(SendError::Closed)));
}
