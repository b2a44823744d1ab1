use super::*;

/// Registers as the specification describes them, and ways to misbehave.
#[derive(Default)]
struct Fake {
    granted: bool,
    ready: bool,
    /// Looks at a register until what was asked for is done; never, if there is none.
    slowness: Option<u32>,
    waited: u32,
    busy: bool,
    fatal: bool,
    absent: bool,
    buffer: Vec<u8>,
    answer: Vec<u8>,
    commands: Vec<Vec<u8>>,
    relinquished: bool,
    pauses: u64,
}

impl Fake {
    fn new(answer: &[u8]) -> Self {
        Self { slowness: Some(0), buffer: vec![0; ROOM], answer: answer.to_vec(), ..Self::default() }
    }

    fn done(&mut self) -> bool {
        self.waited += 1;
        self.slowness.is_some_and(|slowness| self.waited > slowness)
    }
}

impl Registers for Fake {
    fn read(&mut self, offset: u64) -> u32 {
        if self.absent {
            return u32::MAX;
        }
        match offset {
            LOCALITY_STATUS => u32::from(self.granted),
            REQUEST => u32::from(!self.done()) * 3,
            STATUS => u32::from(self.fatal) | u32::from(!self.ready) << 1,
            START => {
                if self.busy && self.done() {
                    self.busy = false;
                    let answer = self.answer.clone();
                    self.buffer[..answer.len()].copy_from_slice(&answer);
                }
                u32::from(self.busy)
            }
            BUFFER.. => {
                let at = usize::try_from(offset - BUFFER).unwrap();
                u32::from_le_bytes(*self.buffer[at..].first_chunk().unwrap())
            }
            other => panic!("register {other:#x}"),
        }
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.waited = 0;
        match (offset, value) {
            (LOCALITY_CONTROL, REQUEST_ACCESS) => self.granted = true,
            (LOCALITY_CONTROL, RELINQUISH) => {
                assert!(!self.ready, "it goes idle first");
                (self.granted, self.relinquished) = (false, true);
            }
            (REQUEST, COMMAND_READY) => self.ready = true,
            (REQUEST, GO_IDLE) => self.ready = false,
            (START, STARTED) => {
                assert!(self.granted && self.ready && !self.busy);
                self.busy = true;
                self.commands.push(self.buffer.clone());
            }
            (BUFFER.., value) => {
                assert!(self.granted && self.ready && !self.busy);
                let at = usize::try_from(offset - BUFFER).unwrap();
                self.buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            other => panic!("write {other:x?}"),
        }
    }

    fn pause(&mut self, turns: u32) {
        self.pauses += u64::from(turns);
    }
}

const ANSWER: &[u8] = &[0x80, 1, 0, 0, 0, 13, 0, 0, 0, 0, 7, 8, 9];

#[test]
fn commands_go_in_and_answers_come_out_at_any_speed() {
    for slowness in [0, 1, 50] {
        let mut crb = Crb::new(Fake::new(ANSWER));
        crb.registers.slowness = Some(slowness);
        for command in [&[1, 2, 3, 4, 5, 6, 7][..], &[9; 12]] {
            let mut response = [0; 20];
            assert_eq!(crb.transact(command, &mut response), Ok(13));
            assert_eq!(&response[..13], ANSWER);
            assert!(crb.registers.commands.last().unwrap().starts_with(command));
        }
        crb.release();
        assert!(crb.registers.relinquished && !crb.registers.ready);
        assert!(crb.registers.buffer.iter().all(|byte| *byte == 0), "nothing is left in the buffer");
    }
}

#[test]
fn every_wait_has_an_end() {
    let mut response = [0; 20];
    let mut crb = Crb::new(Fake::new(ANSWER));
    crb.registers.slowness = None;
    assert_eq!(crb.transact(&[0; 10], &mut response), Err(CrbError::Silent));
    assert!(crb.registers.pauses > u64::from(POLLS));
    crb.release();
    let mut crb = Crb::new(Fake::new(ANSWER));
    crb.registers.absent = true;
    assert_eq!(crb.transact(&[0; 10], &mut response), Err(CrbError::Silent));
    assert_eq!(crb.registers.pauses, 0, "what is absent is not waited for");
}

#[test]
fn answers_that_cannot_be_are_none() {
    let mut response = [0; 20];
    let mut long = [0; ROOM + 100];
    let mut crb = Crb::new(Fake::new(&[0x80, 1, 0, 0, 0x0F, 0x81]));
    assert_eq!(crb.transact(&[0; 10], &mut long), Err(CrbError::Answer), "longer than the buffer");
    for length in [0_u32, 9, 21, 3969, u32::MAX] {
        let answer = [&[0x80, 1][..], &length.to_be_bytes(), &[0; 30]].concat();
        let mut crb = Crb::new(Fake::new(&answer));
        assert_eq!(crb.transact(&[0; 10], &mut response), Err(CrbError::Answer), "{length}");
    }
    let mut crb = Crb::new(Fake::new(ANSWER));
    crb.registers.fatal = true;
    assert_eq!(crb.transact(&[0; 10], &mut response), Err(CrbError::Answer));
    assert_eq!(crb.transact(&[0; ROOM + 1], &mut response), Err(CrbError::Answer));
}
