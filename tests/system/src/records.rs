//! Numbered records, with which a guest that fsyncs each shows what a crash lost.

/// Bytes of a record.
pub const SIZE: usize = 64;

/// The file in which a zone keeps them.
pub const FILE: &str = "/home/records";

/// A record: its number, and a pattern that belongs to it.
#[must_use]
pub fn record(number: u64) -> [u8; SIZE] {
    let pattern = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let text = format!("record {number:020} {pattern:016x} {:016x}\n", !pattern);
    let mut record = [b'.'; SIZE];
    for (to, from) in record.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    record
}

/// How many whole records, from number 1 on, a file begins with; what follows was never confirmed.
#[must_use]
pub fn count(file: &[u8]) -> u64 {
    let whole = file.chunks_exact(SIZE).zip(1_u64..).take_while(|(bytes, number)| *bytes == record(*number));
    whole.map(|(_, number)| number).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_to_the_first_that_is_not_whole() {
        let file: Vec<u8> = (1..=5).flat_map(record).collect();
        assert_eq!(count(&file), 5);
        assert_eq!(count(&file[..4 * SIZE + 10]), 4);
        assert_eq!(count(&[]), 0);
        let mut torn = file.clone();
        torn[2 * SIZE + 30] ^= 1;
        assert_eq!(count(&torn), 2);
        torn.copy_within(SIZE..2 * SIZE, 0);
        assert_eq!(count(&torn), 0);
    }
}
