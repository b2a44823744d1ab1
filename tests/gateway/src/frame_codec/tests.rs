use super::*;

#[test]
fn frames_survive_any_cut_of_the_stream() {
    let frames: Vec<Vec<u8>> = vec![vec![1; 60], vec![], vec![2; 1514], vec![3; MAX_FRAME]];
    let mut stream = Vec::new();
    for frame in &frames {
        encode(frame, &mut stream);
    }
    for step in [1, 3, 64, 1000, stream.len()] {
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for piece in stream.chunks(step) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                seen.push(frame.to_vec());
            }
        }
        assert_eq!(seen, frames, "step {step}");
    }
}

#[test]
fn an_absurd_length_is_an_error() {
    let mut decoder = Decoder::default();
    decoder.push(&[0xff, 0xff, 0xff, 0xff, 0]);
    assert_eq!(decoder.next_frame(), Err(LengthError(u32::MAX)));
}
