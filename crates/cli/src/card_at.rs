//! A test reader: a card that another program on this machine plays, reached over loopback TCP.
//!
//! What [`crate::vpcd`] speaks with a virtual PC/SC reader, from the reader's side and without a
//! smart-card service: every message is a 2-byte big-endian length and that many bytes. The program
//! listens, the terminal dials and switches the field on (`01`), sends command APDUs and gets one answer
//! for each, and switches the field off (`00`). So an app's own card emulation can be tapped
//! without a phone and without a reader.
//!
//! Loopback only: a card that answers from farther away is what the relay check is there to find.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use crate::failure::UsageError;
use crate::tap::CardReader;
use crate::vpcd::{POWER_OFF, POWER_ON, read_frame, write_frame};

/// A card behind a loopback address, its field switched on until this is dropped.
pub(crate) struct CardAt {
    stream: TcpStream,
}

/// An address of this machine that no other machine can reach.
pub(crate) fn loopback(text: &str) -> anyhow::Result<SocketAddr> {
    let address: SocketAddr = text.parse().context("an address is IP:PORT, as 127.0.0.1:40000")?;
    if !address.ip().is_loopback() {
        return Err(UsageError(format!(
            "{address} is not on this machine: a card has to be at the terminal"
        ))
        .into());
    }
    Ok(address)
}

impl CardAt {
    /// Dials the card and switches the field on.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(crate) fn connect(address: SocketAddr, patience: Duration) -> anyhow::Result<Self> {
        let dial = || -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(patience))?;
            write_frame(&mut stream, &[POWER_ON])?;
            Ok(stream)
        };
        let stream = dial().with_context(|| format!("no card answers at {address}"))?;
        Ok(Self { stream })
    }
}

impl CardReader for CardAt {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        write_frame(&mut self.stream, command).context("the card is gone")?;
        let answer = read_frame(&mut self.stream).context("the card gave no answer")?;
        answer.context("the card left the field")
    }
}

impl Drop for CardAt {
    /// A card that has gone already needs no power-off.
    fn drop(&mut self) {
        let _gone = write_frame(&mut self.stream, &[POWER_OFF]);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::{CardAt, loopback};
    use crate::tap::CardReader as _;
    use crate::vpcd::{Ended, VirtualCard, serve};

    #[derive(Default)]
    struct Silent {
        resets: usize,
    }

    impl VirtualCard for Silent {
        fn reset(&mut self) {
            self.resets = self.resets.saturating_add(1);
        }

        fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
            anyhow::ensure!(command != [0xDE, 0xAD], "the card breaks");
            Ok(vec![0x6D, 0x00])
        }
    }

    #[test]
    fn a_card_of_another_program_is_switched_on_asked_and_switched_off() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let card = std::thread::spawn(move || {
            let mut card = Silent::default();
            let (mut stream, _) = listener.accept().unwrap();
            let ended = serve(&mut stream, &mut card);
            (matches!(ended, Ended::ByReader(Ok(()))), card.resets)
        });
        let mut reader = CardAt::connect(address, Duration::from_secs(30)).unwrap();
        assert_eq!(reader.transmit(&[0x00, 0xA4, 0x04, 0x00]).unwrap(), [0x6D, 0x00]);
        drop(reader);
        assert_eq!(card.join().unwrap(), (true, 2));
    }

    #[test]
    fn a_card_that_breaks_off_is_an_error_and_not_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _broken = serve(&mut stream, &mut Silent::default());
        });
        let mut reader = CardAt::connect(address, Duration::from_secs(30)).unwrap();
        assert!(reader.transmit(&[0xDE, 0xAD]).is_err());
        assert!(reader.transmit(&[0x00, 0xA4]).is_err());
    }

    #[test]
    fn only_this_machine_is_near_enough() {
        assert!(loopback("127.0.0.1:1").is_ok() && loopback("[::1]:1").is_ok());
        for far in ["192.0.2.1:1", "0.0.0.0:1", "[2001:db8::1]:1", "localhost"] {
            assert!(loopback(far).is_err(), "{far}");
        }
    }
}
