use super::*;

fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
    [vec![0; 16], kind.to_ne_bytes().to_vec(), code.to_ne_bytes().to_vec(), value.to_ne_bytes().to_vec()]
        .concat()
}

#[test]
fn only_the_power_key_going_down_counts() {
    let sync = event(0, 0, 0);
    assert!(power_pressed(&[sync.clone(), event(1, 116, 1), sync.clone()].concat()));
    for other in [event(1, 116, 0), event(1, 115, 1), event(2, 116, 1), Vec::new(), vec![1; 23]] {
        assert!(!power_pressed(&[other, sync.clone()].concat()));
    }
}
