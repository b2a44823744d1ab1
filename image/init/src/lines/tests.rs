use super::*;

#[test]
fn bytes_become_lines() {
    let mut cutter = Cutter::default();
    assert_eq!(cutter.push(b"one\ntw"), ["one"]);
    assert_eq!(cutter.push(b"o\n\n\nthree"), ["two"]);
    assert_eq!(cutter.finish().as_deref(), Some("three"));
    assert_eq!(cutter.finish(), None);
}

#[test]
fn terminal_commands_are_disarmed() {
    let mut cutter = Cutter::default();
    assert_eq!(cutter.push(b"a\x1b[2Jb\x07c\xff\tz\r\n"), ["a.[2Jb.c\u{fffd}\tz"]);
}

#[test]
fn endless_lines_take_no_endless_memory() {
    let mut cutter = Cutter::default();
    let lines = cutter.push(&[b'x'; 3 * LONGEST + 1]);
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST; 3]);
    assert_eq!(cutter.rest.len(), 1);
}

#[test]
fn a_flood_is_dropped_and_counted() {
    let mut now = Duration::from_secs(5);
    let mut ration = Ration::new(now);
    for _ in 0..BURST {
        assert_eq!(ration.line(now), Passage::Print { dropped: 0 });
    }
    for _ in 0..7 {
        assert_eq!(ration.line(now), Passage::Drop);
    }
    now += PER_LINE;
    assert_eq!(ration.line(now), Passage::Print { dropped: 7 });
    assert_eq!(ration.line(now), Passage::Drop);
}
