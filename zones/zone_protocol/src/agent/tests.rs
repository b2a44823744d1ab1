//! Frames there and back, and streams that are none.

use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8]) -> Result<Option<FromAgent>, FrameError> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    decoder.next_message()
}

#[test]
fn frames_are_bounded() {
    assert_eq!(decode(&[0; 4]), Err(FrameError::Length(0)));
    assert_eq!(decode(&[0xff; 4]), Err(FrameError::Length(u32::MAX)));
    assert_eq!(decode(&[1, 0, 1, 0]), Err(FrameError::Length(65537)));
    assert_eq!(decode(&[1, 0, 0, 0, 9]), Err(FrameError::Body));
    assert_eq!(decode(&[1, 0, 0]), Ok(None));
    let long = Answer::Check { passed: true, output: "x".repeat(MAX_FRAME) };
    assert!(encode(&FromAgent::Response { number: 1, answer: long }).is_err());
}

#[test]
fn a_body_with_something_behind_it_is_refused() {
    let mut frame = encode(&FromAgent::Response { number: 1, answer: Answer::ShuttingDown }).unwrap();
    frame.push(0);
    frame[0] += 1;
    assert_eq!(decode(&frame), Err(FrameError::Body));
}

proptest! {
    #[test]
    fn property_messages_survive_any_cut(outputs in prop::collection::vec(".{0,40}", 1..8), cut in 1_usize..64) {
        let answer = |(number, output): (u32, &String)| FromAgent::Response {
            number,
            answer: Answer::Check { passed: number % 2 == 0, output: output.clone() },
        };
        let messages: Vec<FromAgent> = (0..).zip(&outputs).map(answer).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        let mut decoder = Decoder::default();
        let mut found: Vec<FromAgent> = Vec::new();
        for part in stream.chunks(cut) {
            decoder.push(part);
            while let Some(message) = decoder.next_message().unwrap() {
                found.push(message);
            }
        }
        prop_assert_eq!(found, messages);
        prop_assert!(decoder.buffer.is_empty());
    }

    #[test]
    fn property_any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), small: bool) {
        let mut bytes = bytes;
        if small && bytes.len() > 4 {
            // Lengths that random bytes would hardly ever make.
            bytes[1..4].fill(0);
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(message)) = decoder.next_message::<FromAgent>() {
            let _ = message;
        }
    }
}
