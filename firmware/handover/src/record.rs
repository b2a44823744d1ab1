//! The login record: made for one start of one zone, read once by its firmware.
//!
//! ```text
//!    0  magic "BHLR"       16  start nonce, 32 bytes       80  credentials, one after the other to the end:
//!    4  version             48  the zone's identity, 32         length of the name (u16), of the value (u16),
//!    8  length of all                                           name, value
//!   12  flags
//! ```
//! Numbers are little-endian.

/// First bytes of a record.
const MAGIC: u32 = u32::from_le_bytes(*b"BHLR");
const VERSION: u32 = 1;

/// What precedes the credentials.
pub const HEADER: usize = 80;
/// Longest record.
pub const LONGEST: usize = 3584;
/// Longest name of a credential.
pub const LONGEST_NAME: usize = 64;

/// Flag: the zone has no vTPM yet, so the firmware leaves out everything that needs one. It goes when every zone has
/// one.
const NO_VTPM_YET: u32 = 1;

/// Everything of a record but its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The zone has no vTPM yet (transitional): nothing vouches for the record.
    pub no_vtpm_yet: bool,
    /// Random, another one for each start: no two records have one hash.
    pub nonce: [u8; 32],
    /// Which zone it was made for.
    pub identity: [u8; 32],
}

/// Why there is no record to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A name is none that a system credential can have.
    #[error("credential {0} has a name that is none")]
    Name(usize),
    /// They are too many or too long.
    #[error("credentials of more than {} bytes", LONGEST - HEADER)]
    TooLong,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing.
    #[error("there is none")]
    Empty,
    /// It does not begin as a record of this version.
    #[error("no record of version {VERSION}")]
    Unknown,
    /// Lengths, flags or names are not as they must be.
    #[error("a record that is malformed")]
    Malformed,
}

/// Whether a system credential can have this name.
fn is_name(name: &[u8]) -> bool {
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with(b".");
    fits && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// Writes a record; how long it is.
///
/// # Errors
/// [`EncodeError`]; what is in `out` then is no record.
pub fn encode(
    header: &Header,
    credentials: &[(&str, &[u8])],
    out: &mut [u8; LONGEST],
) -> Result<usize, EncodeError> {
    let mut writer = Writer { out, at: 0 };
    writer.put(&MAGIC.to_le_bytes())?;
    writer.put(&VERSION.to_le_bytes())?;
    writer.put(&[0; 4])?;
    writer.put(&(if header.no_vtpm_yet { NO_VTPM_YET } else { 0 }).to_le_bytes())?;
    writer.put(&header.nonce)?;
    writer.put(&header.identity)?;
    for (number, (name, value)) in credentials.iter().enumerate() {
        if !is_name(name.as_bytes()) {
            return Err(EncodeError::Name(number));
        }
        for length in [name.len(), value.len()] {
            writer.put(&u16::try_from(length).map_err(|_too_long| EncodeError::TooLong)?.to_le_bytes())?;
        }
        writer.put(name.as_bytes())?;
        writer.put(value)?;
    }
    let length = writer.at;
    writer.at = 8;
    writer.put(&u32::try_from(length).map_err(|_too_long| EncodeError::TooLong)?.to_le_bytes())?;
    Ok(length)
}

/// Where the next bytes go.
struct Writer<'a> {
    out: &'a mut [u8; LONGEST],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.at.checked_add(bytes.len()).ok_or(EncodeError::TooLong)?;
        self.out.get_mut(self.at..end).ok_or(EncodeError::TooLong)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }
}

/// The length that the first 16 bytes claim, checked: how much of a mailbox is worth reading.
///
/// # Errors
/// [`DecodeError`].
pub fn length(start: &[u8; 16]) -> Result<usize, DecodeError> {
    let [magic, version, length, _flags] = words(start);
    if *start == [0; 16] {
        return Err(DecodeError::Empty);
    }
    if (magic, version) != (MAGIC, VERSION) {
        return Err(DecodeError::Unknown);
    }
    let length = usize::try_from(length).map_err(|_too_long| DecodeError::Malformed)?;
    if !(HEADER..=LONGEST).contains(&length) {
        return Err(DecodeError::Malformed);
    }
    Ok(length)
}

fn words(start: &[u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(start.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// A record that holds what it must: its lengths fit, its names are names.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    bytes: &'a [u8],
}

/// Secrets are not printed.
impl core::fmt::Debug for Record<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Record").finish_non_exhaustive()
    }
}

impl<'a> Record<'a> {
    /// Checks bytes that claim to be a record; what follows its length is not looked at.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let start = bytes.first_chunk().ok_or(DecodeError::Malformed)?;
        let length = length(start)?;
        let record = Self { bytes: bytes.get(..length).ok_or(DecodeError::Malformed)? };
        let [.., flags] = words(start);
        let mut credentials = record.credentials();
        let names = credentials.by_ref().all(|(name, _)| is_name(name.as_bytes()));
        if flags & !NO_VTPM_YET != 0 || !names || !credentials.rest.is_empty() {
            return Err(DecodeError::Malformed);
        }
        Ok(record)
    }

    /// The whole record: what is hashed.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// See [`Header::no_vtpm_yet`].
    #[must_use]
    pub fn no_vtpm_yet(&self) -> bool {
        self.bytes.get(12).is_some_and(|byte| *byte != 0)
    }

    /// Its credentials, in order.
    #[must_use]
    pub fn credentials(&self) -> Credentials<'a> {
        Credentials { rest: self.bytes.get(HEADER..).unwrap_or_default() }
    }
}

/// Names and values.
#[derive(Clone)]
pub struct Credentials<'a> {
    rest: &'a [u8],
}

/// Secrets are not printed.
impl core::fmt::Debug for Credentials<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl<'a> Credentials<'a> {
    fn first(&self) -> Option<(&'a str, &'a [u8], &'a [u8])> {
        let ([name, name_high, value, value_high], rest) = self.rest.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(u16::from_le_bytes([*name, *name_high]).into())?;
        let (value, rest) = rest.split_at_checked(u16::from_le_bytes([*value, *value_high]).into())?;
        Some((str::from_utf8(name).ok()?, value, rest))
    }
}

impl<'a> Iterator for Credentials<'a> {
    type Item = (&'a str, &'a [u8]);

    /// Stops where something is malformed, and stays there.
    fn next(&mut self) -> Option<Self::Item> {
        let (name, value, rest) = self.first()?;
        self.rest = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests;
