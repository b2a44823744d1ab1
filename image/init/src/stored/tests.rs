use super::*;

fn pipe() -> OwnedFd {
    rustix::pipe::pipe().unwrap().0
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("name{number}")).collect()
}

fn descriptors(count: usize) -> Vec<OwnedFd> {
    std::iter::repeat_with(pipe).take(count).collect()
}

#[test]
fn the_next_zoned_hears_what_was_stored_last_and_who_is_gone() {
    let mut stored = Stored::default();
    stored.store(3, vec![1], names(1), descriptors(1)).unwrap();
    stored.store(3, vec![2], names(2), descriptors(2)).unwrap();
    stored.store(4, vec![3], Vec::new(), Vec::new()).unwrap();
    stored.discard(4);
    stored.note_exit(2000, 7, ExitCause::Code(0));
    stored.note_exit(2000, 8, ExitCause::Signal(9));
    for _ in 0..2 {
        let told = stored.tell().unwrap();
        let kept = Event::Stored { slot: 3, state: vec![2], names: names(2) };
        assert_eq!(told[0].0, kept);
        assert_eq!(told[0].1.len(), 2);
        assert_eq!(told[1].0, Event::Exited { process: 8, cause: ExitCause::Signal(9) });
        assert_eq!(told.len(), 2);
    }
}

#[test]
fn what_is_not_as_promised_is_refused_and_leaves_nothing() {
    let many = MAX_STORED_DESCRIPTORS + 1;
    let cases = [
        (MAX_ZONES, 0, names(0), 0, "slot 32 is not below 32"),
        (0, MAX_STORED_STATE + 1, names(0), 0, "state of 8193 bytes, at most 8192 are stored"),
        (0, 0, names(1), 2, "1 names came with 2 descriptors, at most 8 are stored"),
        (0, 0, names(many), many, "9 names came with 9 descriptors, at most 8 are stored"),
        (0, 0, vec!["a".into(), "a".into()], 2, "name 1 of the list is not [a-z0-9]{1,16}, or comes twice"),
        (0, 0, vec!["A b".into()], 1, "name 1 of the list is not [a-z0-9]{1,16}, or comes twice"),
    ];
    for (slot, state, names, count, message) in cases {
        let mut stored = Stored::default();
        stored.store(0, Vec::new(), Vec::new(), Vec::new()).unwrap();
        let error = stored.store(slot, vec![0; state], names, descriptors(count)).unwrap_err();
        assert_eq!(error.to_string(), message);
        let left = usize::from(slot != 0);
        assert_eq!(stored.tell().unwrap().len(), left);
    }
}
