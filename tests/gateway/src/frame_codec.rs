//! QEMU's stream of Ethernet frames: each is preceded by its length as a big-endian `u32`.

/// The largest frame that is accepted, in bytes (QEMU's own limit is near).
pub const MAX_FRAME: usize = 65_536 + 64;

/// The peer announced a frame that cannot be one: the stream is out of step and of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame length {0} is above {MAX_FRAME}")]
pub struct LengthError(pub u32);

/// Cuts the stream into frames. It holds at most what was pushed since the last complete frame.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Appends bytes from the stream. Take every frame with [`Decoder::next_frame`] before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// [`LengthError`]; give the connection up.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, LengthError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*header);
        let length = match usize::try_from(announced) {
            Ok(length) if length <= MAX_FRAME => length,
            Ok(_) | Err(_) => return Err(LengthError(announced)),
        };
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.start += 4 + length;
        Ok(Some(frame))
    }
}

/// Appends one frame with its length to an output buffer. A frame above [`MAX_FRAME`] is a bug of this crate.
pub fn encode(frame: &[u8], output: &mut Vec<u8>) {
    let length = u32::try_from(frame.len()).expect("our own frames are below 64 KiB");
    output.extend_from_slice(&length.to_be_bytes());
    output.extend_from_slice(frame);
}

#[cfg(test)]
mod tests;
