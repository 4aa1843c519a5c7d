//! A card in a virtual PC/SC reader: the client side of vpcd, the virtual smart card reader of
//! Debian's `vsmartcard-vpcd`.
//!
//! The card dials the daemon. Every message is a 2-byte big-endian length and that many bytes. A message
//! of one byte from the reader is a control code (below); anything longer is a command APDU, and the card
//! answers with a frame.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Where vpcd listens unless its reader configuration says otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:35963";

/// Historical bytes of an ISO 14443-4 card without any: TD1 and TD2 offer T=0 and T=1 as PC/SC part 3
/// says, then the check byte.
pub(crate) const ANSWER_TO_RESET: [u8; 5] = [0x3B, 0x80, 0x80, 0x01, 0x01];

/// The field is switched off.
pub(crate) const POWER_OFF: u8 = 0;
/// The field is switched on.
pub(crate) const POWER_ON: u8 = 1;
const RESET: u8 = 2;
const GET_ANSWER_TO_RESET: u8 = 4;

/// What lies in the reader.
pub(crate) trait VirtualCard {
    /// The field is switched on, off, or the card is reset: any transaction is over.
    fn reset(&mut self);
    /// One command APDU; the answer with its status word.
    ///
    /// # Errors
    /// Only what makes going on impossible, such as a store that cannot be written. Without an
    /// answer the reader sees a card that left the field.
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>>;

    /// Whether the card is taken out of the field now, after it was switched off or reset.
    fn leaves(&self) -> bool {
        false
    }
}

/// Why a card is no longer in the reader.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The reader closed or broke the connection: another one may come.
    ByReader(io::Result<()>),
    /// The card cannot go on.
    ByCard(anyhow::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::ByReader(Err(error))
    }
}

/// Serves the card on one connection until it ends.
pub(crate) fn serve(stream: &mut TcpStream, card: &mut impl VirtualCard) -> Ended {
    match answer_all(stream, card) {
        Ok(()) => Ended::ByReader(Ok(())),
        Err(ended) => ended,
    }
}

fn answer_all(stream: &mut TcpStream, card: &mut impl VirtualCard) -> Result<(), Ended> {
    // Without this the kernel collects bytes, and every APDU waits for tens of milliseconds.
    stream.set_nodelay(true)?;
    while let Some(message) = read_frame(stream)? {
        match message.as_slice() {
            [POWER_OFF | POWER_ON | RESET] => {
                card.reset();
                if card.leaves() {
                    return Ok(());
                }
            }
            [GET_ANSWER_TO_RESET] => write_frame(stream, &ANSWER_TO_RESET)?,
            // A later vpcd may know further codes; none of them expects an answer.
            [_] | [] => {}
            command => {
                let answer = card.transmit(command).map_err(Ended::ByCard)?;
                write_frame(stream, &answer)?;
            }
        }
    }
    Ok(())
}

/// One frame; none if the reader closed the connection between two frames.
pub(crate) fn read_frame(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0_u8; 2];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Length and message in one write, so that they leave in one packet.
pub(crate) fn write_frame(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "a frame has at most 65535 bytes")
    })?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    stream.write_all(&frame)
}

#[cfg(test)]
mod tests {
    use super::{Ended, VirtualCard, read_frame, serve, write_frame};
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    struct Echo {
        resets: usize,
    }

    impl VirtualCard for Echo {
        fn reset(&mut self) {
            self.resets = self.resets.saturating_add(1);
        }

        fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
            Ok([command, &[0x90, 0x00]].concat())
        }
    }

    #[test]
    fn speaks_the_protocol_of_the_daemon() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let card = std::thread::spawn(move || {
            let mut card = Echo { resets: 0 };
            let ended = serve(&mut TcpStream::connect(address).unwrap(), &mut card);
            assert!(matches!(ended, Ended::ByReader(Ok(()))), "{ended:?}");
            card.resets
        });
        let (mut reader, _) = listener.accept().unwrap();
        write_frame(&mut reader, &[1]).unwrap();
        write_frame(&mut reader, &[4]).unwrap();
        assert_eq!(read_frame(&mut reader).unwrap().unwrap(), super::ANSWER_TO_RESET);
        write_frame(&mut reader, &[0x00, 0xA4, 0x04, 0x00]).unwrap();
        let answer = read_frame(&mut reader).unwrap().unwrap();
        assert_eq!(answer, [0x00, 0xA4, 0x04, 0x00, 0x90, 0x00]);
        write_frame(&mut reader, &[0]).unwrap();
        drop(reader);
        assert_eq!(card.join().unwrap(), 2);
    }

    #[test]
    fn a_reader_that_stumbles_does_not_end_the_card_and_a_card_that_fails_does() {
        struct Broken;
        impl VirtualCard for Broken {
            fn reset(&mut self) {}
            fn transmit(&mut self, _command: &[u8]) -> anyhow::Result<Vec<u8>> {
                anyhow::bail!("the disk is full")
            }
        }
        let end_after = |frame: &[u8]| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut card = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut reader, _) = listener.accept().unwrap();
            reader.write_all(frame).unwrap();
            drop(reader);
            serve(&mut card, &mut Broken)
        };
        assert!(matches!(end_after(&[0, 5, 0x00]), Ended::ByReader(Err(_))));
        assert!(matches!(end_after(&[0, 4, 0, 0xA4, 4, 0]), Ended::ByCard(_)));
    }

    /// Two frames, an empty one among them, cut at every byte: what was read is what was written before.
    #[test]
    fn a_stream_that_ends_anywhere_gives_whole_frames_only() {
        let frames: [&[u8]; 3] = [&[1], &[], &[0x00, 0xA4, 0x04, 0x00]];
        let mut written = Vec::new();
        frames.iter().for_each(|frame| write_frame(&mut written, frame).unwrap());
        let boundaries = [0, 3, 5, written.len()];
        for cut in 0..=written.len() {
            let mut stream = &written[..cut];
            let mut read = Vec::new();
            let end = loop {
                match read_frame(&mut stream) {
                    Ok(Some(frame)) => read.push(frame),
                    end => break end.map(|_none| ()),
                }
            };
            let whole = boundaries.iter().filter(|boundary| (1..=cut).contains(*boundary)).count();
            assert_eq!(read, frames[..whole], "cut at {cut}");
            // Half a length is nothing, half a message is an error.
            let behind = cut - boundaries[whole];
            assert_eq!(end.is_ok(), behind < 2, "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_frame_is_an_error_and_a_clean_end_is_not() {
        assert!(read_frame(&mut [].as_slice()).unwrap().is_none());
        assert!(read_frame(&mut [0_u8, 5, 1].as_slice()).is_err());
    }
}
