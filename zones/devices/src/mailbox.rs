//! The mailbox: a page from which a zone's firmware takes its login record, byte by byte, each once.
//!
//! What was read is zero from then on, also in this process's memory; writes change nothing. It is filled for each start
//! of the machine, and emptied as soon as the firmware goes on.

use zeroize::Zeroize;

/// Size of the page.
pub const SIZE: usize = 4096;

/// The page.
pub struct Mailbox {
    /// On the heap: moving the mailbox leaves no copy behind.
    content: Box<[u8; SIZE]>,
}

/// Its content is not printed.
impl std::fmt::Debug for Mailbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { content: Box::new([0; SIZE]) }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.empty();
    }
}

impl Mailbox {
    /// Puts a record in, in place of whatever is there. What is longer than the page is cut: nobody makes such a record.
    pub fn fill(&mut self, record: &[u8]) {
        self.empty();
        for (place, byte) in self.content.iter_mut().zip(record) {
            *place = *byte;
        }
    }

    /// Forgets what is left.
    pub fn empty(&mut self) {
        self.content.zeroize();
    }

    /// A guest's read.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let start = usize::try_from(offset).unwrap_or(SIZE);
        let rest = self.content.get_mut(start..).unwrap_or_default();
        for (given, byte) in data.iter_mut().zip(rest) {
            *given = *byte;
            byte.zeroize();
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.iter().all(|byte| *byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_is_read_once_and_another_one_replaces_what_is_left() {
        let mut mailbox = Mailbox::default();
        mailbox.fill(b"a long record");
        let mut data = [0xEE; 6];
        mailbox.read(0, &mut data);
        assert_eq!(&data, b"a long");
        mailbox.read(0, &mut data);
        assert_eq!(data, [0; 6]);
        mailbox.fill(b"short");
        mailbox.read(6, &mut data);
        assert_eq!(data, [0; 6]);
        mailbox.read(2, &mut data);
        assert_eq!(&data, b"ort\0\0\0");
        mailbox.empty();
        assert!(mailbox.is_empty());
        mailbox.fill(&[1; SIZE + 5]);
        mailbox.read(u64::try_from(SIZE).unwrap() - 2, &mut data);
        assert_eq!(data, [1, 1, 0, 0, 0, 0]);
        assert!(!format!("{mailbox:?}").contains('1'));
    }

    proptest! {
        #[test]
        fn property_each_byte_is_given_at_most_once(
            record in prop::collection::vec(1_u8.., 0..300),
            reads in prop::collection::vec((prop_oneof![0..320_u64, any::<u64>()], 0..16_usize), 0..60),
        ) {
            let mut mailbox = Mailbox::default();
            mailbox.fill(&record);
            let mut given = vec![0_u8; record.len()];
            for (offset, length) in reads {
                let mut data = vec![0xEE; length];
                mailbox.read(offset, &mut data);
                for (at, byte) in (0..length).zip(data) {
                    let at = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(at);
                    match given.get_mut(at) {
                        Some(before) if byte != 0 => {
                            prop_assert_eq!((*before, byte), (0, record[at]));
                            *before = byte;
                        }
                        Some(before) => prop_assert_eq!(*before, record[at]),
                        None => prop_assert_eq!(byte, 0),
                    }
                }
            }
            prop_assert_eq!(mailbox.is_empty(), given == record);
        }
    }
}
