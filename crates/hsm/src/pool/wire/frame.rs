//! Frames: where one message ends and the next begins.

use std::io::{self, Read};

use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

/// Length and request id.
pub const FRAME_HEADER_LENGTH: usize = 12;
/// The longest message. Nothing that the verbs take or give comes near.
pub const MAXIMUM_MESSAGE: usize = 128 * 1024;

/// The part of a frame's length that the request id has.
const ID_LENGTH: usize = 8;
/// Room for the longest frame, and for many short ones at once.
const BUFFER_LENGTH: usize = MAXIMUM_MESSAGE + FRAME_HEADER_LENGTH + 64 * 1024;

/// What cannot be framed, or is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAXIMUM_MESSAGE`], or shorter than a request id.
    #[error("a frame of {0} bytes is none of this protocol")]
    Length(usize),
    /// A value that this encoding does not have.
    #[error("the message cannot be encoded")]
    Encoding,
}

/// One message and the id of the request that it is, or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which request.
    pub id: u64,
    /// The message.
    pub message: &'a [u8],
}

/// Writes a frame behind what is in `buffer`, which grows once, by as much as is needed: a growing vector
/// would leave copies of secrets behind.
///
/// # Errors
/// [`FrameError`]; `buffer` is as it was then.
pub fn append(
    buffer: &mut Zeroizing<Vec<u8>>,
    id: u64,
    message: &impl Serialize,
) -> Result<(), FrameError> {
    let size =
        postcard::experimental::serialized_size(message).map_err(|_| FrameError::Encoding)?;
    if size > MAXIMUM_MESSAGE {
        return Err(FrameError::Length(size));
    }
    let length = size.saturating_add(ID_LENGTH);
    let length_field = u32::try_from(length).map_err(|_| FrameError::Length(length))?;
    let begin = buffer.len();
    make_room(buffer, size.saturating_add(FRAME_HEADER_LENGTH));
    buffer.extend_from_slice(&length_field.to_le_bytes());
    buffer.extend_from_slice(&id.to_le_bytes());
    let body = buffer.len();
    buffer.resize(body.saturating_add(size), 0);
    let written = buffer.get_mut(body..).map(|room| postcard::to_slice(message, room).map(|_| ()));
    match written {
        Some(Ok(())) => Ok(()),
        _ => {
            buffer.truncate(begin);
            Err(FrameError::Encoding)
        }
    }
}

/// Writes a whole frame behind what is in `buffer`, under another request id.
pub(in crate::pool) fn append_frame(buffer: &mut Zeroizing<Vec<u8>>, frame: &[u8], id: u64) {
    make_room(buffer, frame.len());
    let begin = buffer.len();
    buffer.extend_from_slice(frame);
    let place = buffer.get_mut(begin..).and_then(|frame| frame.get_mut(4..FRAME_HEADER_LENGTH));
    place.unwrap_or_default().copy_from_slice(&id.to_le_bytes());
}

fn make_room(buffer: &mut Zeroizing<Vec<u8>>, more: usize) {
    let needed = buffer.len().saturating_add(more);
    if needed > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
}

/// Bytes as they come in, cut into frames.
#[derive(Debug)]
pub struct Incoming {
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { buffer: Zeroizing::new(vec![0; BUFFER_LENGTH]), start: 0, end: 0 }
    }
}

impl Incoming {
    /// Reads once, as much as there is. 0: the other side is gone. Call it when
    /// [`Incoming::next_frame`] has no more to give.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn read_from(&mut self, mut source: impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        let kept = self.end.saturating_sub(self.start);
        // What was read is wiped, not only written over some day.
        if let Some(old) = self.buffer.get_mut(kept..self.end) {
            old.zeroize();
        }
        (self.start, self.end) = (0, kept);
        let room = self.buffer.get_mut(kept..).unwrap_or_default();
        let read = source.read(room)?;
        self.end = kept.saturating_add(read);
        Ok(read)
    }

    /// The next whole frame; `None` if there is none yet.
    ///
    /// # Errors
    /// [`FrameError::Length`]: the connection is of no use any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some((frame, _)) = split(unread)? else { return Ok(None) };
        let length = FRAME_HEADER_LENGTH.saturating_add(frame.message.len());
        self.start = self.start.saturating_add(length);
        Ok(Some(frame))
    }

    /// Whether more than one whole frame is there still.
    pub(in crate::pool) fn has_several(&self) -> bool {
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        let is_whole = |bytes| matches!(split(bytes), Ok(Some(_)));
        matches!(split(unread), Ok(Some((_, rest))) if is_whole(rest))
    }
}

/// The first frame of `bytes`, and what is behind it. `None` if it is not there as a whole.
fn split(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let message_length = length.checked_sub(ID_LENGTH).ok_or(FrameError::Length(length))?;
    if message_length > MAXIMUM_MESSAGE {
        return Err(FrameError::Length(length));
    }
    let Some((id, rest)) = rest.split_first_chunk::<ID_LENGTH>() else { return Ok(None) };
    let split = rest.split_at_checked(message_length);
    Ok(split.map(|(message, rest)| (Frame { id: u64::from_le_bytes(*id), message }, rest)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::{FRAME_HEADER_LENGTH, FrameError, Incoming, MAXIMUM_MESSAGE, append};

    /// Gives its bytes in pieces.
    struct Pieces<'a>(&'a [u8], usize);

    impl std::io::Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let now = self.0.len().min(self.1).min(out.len());
            let (piece, rest) = self.0.split_at(now);
            out[..now].copy_from_slice(piece);
            self.0 = rest;
            Ok(now)
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            messages in proptest::collection::vec(
                (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..2000)), 0..40),
            piece in 1_usize..5000,
        ) {
            let mut sent = Zeroizing::new(Vec::new());
            for (id, message) in &messages {
                append(&mut sent, *id, message).unwrap();
            }
            let mut pieces = Pieces(&sent, piece);
            let (mut incoming, mut received) = (Incoming::default(), Vec::new());
            while incoming.read_from(&mut pieces).unwrap() > 0 {
                while let Some(frame) = incoming.next_frame().unwrap() {
                    received.push((frame.id, postcard::from_bytes::<Vec<u8>>(frame.message).unwrap()));
                }
            }
            prop_assert_eq!(received, messages);
        }

        #[test]
        fn any_bytes_are_frames_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut incoming = Incoming::default();
            incoming.read_from(&*bytes).unwrap();
            let mut whole = 0_usize;
            while let Ok(Some(frame)) = incoming.next_frame() {
                whole = whole.saturating_add(frame.message.len()).saturating_add(FRAME_HEADER_LENGTH);
            }
            prop_assert!(whole <= bytes.len());
        }
    }

    #[test]
    fn no_frame_is_longer_than_the_buffer() {
        let longest = vec![7_u8; MAXIMUM_MESSAGE - 3];
        let mut sent = Zeroizing::new(Vec::new());
        append(&mut sent, 1, &longest).unwrap();
        append(&mut sent, 2, &1_u8).unwrap();
        let (mut incoming, mut source) = (Incoming::default(), &sent[..]);
        let mut ids = Vec::new();
        while incoming.read_from(&mut source).unwrap() > 0 {
            while let Some(frame) = incoming.next_frame().unwrap() {
                ids.push(frame.id);
            }
        }
        assert_eq!(ids, [1, 2]);

        let before = sent.len();
        let mut incoming = Incoming::default();
        let several = [2, 1, 0].map(|fewer| {
            let mut some = Zeroizing::new(Vec::new());
            (0..3 - fewer).for_each(|id| append(&mut some, id, &1_u8).unwrap());
            incoming.read_from(&some[..]).unwrap();
            let several = incoming.has_several();
            while incoming.next_frame().unwrap().is_some() {}
            several
        });
        assert_eq!(several, [false, true, true]);
        let too_long = append(&mut sent, 3, &vec![7_u8; MAXIMUM_MESSAGE]);
        assert_eq!(too_long, Err(FrameError::Length(MAXIMUM_MESSAGE + 3)));
        assert_eq!(sent.len(), before);
        for length in [7, u32::try_from(MAXIMUM_MESSAGE).unwrap() + 9, u32::MAX] {
            let mut incoming = Incoming::default();
            incoming.read_from(&length.to_le_bytes()[..]).unwrap();
            assert!(incoming.next_frame().is_err(), "{length}");
        }
    }

    #[test]
    fn what_was_read_is_wiped() {
        let mut sent = Zeroizing::new(Vec::new());
        append(&mut sent, 1, &[0xAA_u8; 16]).unwrap();
        let mut incoming = Incoming::default();
        incoming.read_from(&sent[..]).unwrap();
        incoming.next_frame().unwrap().unwrap();
        incoming.read_from(&[][..]).unwrap();
        assert!(incoming.buffer.iter().all(|byte| *byte == 0));
    }
}
