//! Power of a hardware-reduced ACPI machine: sleep control, sleep status and reset, three byte-wide ports.
//!
//! ACPI 6.5, sections 4.8.3.7 (sleep registers) and 4.8.3.6 (reset register).

/// Sleep control register: sleep type in bits 2 to 4, enable in bit 5.
pub const SLEEP_CONTROL: u16 = 0x600;

/// Sleep status register: the machine never wakes, so it is always zero.
pub const SLEEP_STATUS: u16 = 0x601;

/// Reset register.
pub const RESET: u16 = 0x602;

/// What is written to [`RESET`].
pub const RESET_VALUE: u8 = 1;

/// The sleep type of "soft off", as the `_S5` object says.
pub const SOFT_OFF: u8 = 5;

/// Bit of the sleep control register that starts the sleep.
const SLEEP_ENABLE: u8 = 1 << 5;

/// What the guest asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Soft off.
    PowerOff,
    /// Reset.
    Reset,
}

/// What a write of `value` to `port` asks for.
#[must_use]
pub fn request(port: u16, value: u8) -> Option<Request> {
    let soft_off = SLEEP_ENABLE | SOFT_OFF << 2;
    match (port, value) {
        (SLEEP_CONTROL, value) if value & (SLEEP_ENABLE | 0x1C) == soft_off => Some(Request::PowerOff),
        (RESET, RESET_VALUE) => Some(Request::Reset),
        _ => None,
    }
}

/// What a byte read from `port` gives, if the port is one of ours.
#[must_use]
pub fn read(port: u16) -> Option<u8> {
    matches!(port, SLEEP_CONTROL | SLEEP_STATUS | RESET).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_enable_bit_with_the_right_type_turns_off() {
        assert_eq!(request(SLEEP_CONTROL, 0x34), Some(Request::PowerOff));
        for value in [0x14, 0x20, 0x30, 0x38, 0x3C, 0] {
            assert_eq!(request(SLEEP_CONTROL, value), None, "{value:#x}");
        }
        assert_eq!(request(SLEEP_STATUS, 0x34), None);
    }

    #[test]
    fn reset_takes_its_value_alone() {
        assert_eq!(request(RESET, RESET_VALUE), Some(Request::Reset));
        assert_eq!(request(RESET, 0), None);
    }
}
