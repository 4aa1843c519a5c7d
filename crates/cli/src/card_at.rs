//! A test reader: a card that another program on this machine plays, reached over loopback TCP.
//!
//! What [`crate::vpcd`] speaks with a virtual PC/SC reader, from the reader's side and without a
//! smart-card service: every message is a 2-byte big-endian length and that many bytes. The program
//! listens, the terminal dials and switches the field on (`01`), sends command APDUs and gets one answer
//! for each, and switches the field off (`00`). So an app's own card emulation can be tapped
//! without a phone and without a reader.
//!
//! A card that is taken out of the field closes its connection; it accepts the next one when it is presented
//! again. Several addresses are several cards in one field.
//!
//! Loopback only: a card that answers from farther away is what the relay check is there to find.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::clock;
use crate::failure::UsageError;
use crate::tap::CardReader;
use crate::vpcd::{POWER_OFF, POWER_ON, read_frame, write_frame};

/// How long to wait before a card that is not there is dialled again.
const REDIAL: Duration = Duration::from_millis(50);

/// The cards behind loopback addresses, the field switched on until this is dropped.
pub(crate) struct CardAt {
    addresses: Vec<SocketAddr>,
    patience: Duration,
    /// The cards in the field.
    cards: Vec<TcpStream>,
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
    /// Dials the cards and switches the field on. An answer may take as long as `patience`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(crate) fn connect(addresses: &[SocketAddr], patience: Duration) -> anyhow::Result<Self> {
        let dialled = addresses.iter().map(|address| {
            dial(*address, patience).with_context(|| format!("no card answers at {address}"))
        });
        let cards = dialled.collect::<anyhow::Result<_>>()?;
        Ok(Self { addresses: addresses.to_vec(), patience, cards })
    }

    /// Switches the field off, and waits until nobody is in it any more.
    fn clear_field(&mut self, until: Instant) -> bool {
        self.cards.drain(..).all(|mut card| {
            let _gone = write_frame(&mut card, &[POWER_OFF]);
            has_left(&mut card, until)
        })
    }
}

fn dial(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    write_frame(&mut stream, &[POWER_ON])?;
    Ok(stream)
}

/// Whether the card closes its connection in time. What it still says is heard by nobody.
fn has_left(card: &mut TcpStream, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(clock::instant());
        if left.is_zero() || card.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        match read_frame(card) {
            Ok(Some(_)) => {}
            Err(error) if is_timeout(&error) => return false,
            Ok(None) | Err(_) => return true,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl CardReader for CardAt {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let card = self.cards.first_mut().context("the card is gone")?;
        write_frame(card, command).context("the card is gone")?;
        let answer = read_frame(card).context("the card gave no answer")?;
        answer.context("the card left the field")
    }

    fn sees_several(&mut self) -> anyhow::Result<bool> {
        Ok(self.cards.len() > 1)
    }

    fn present_again(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let until = clock::instant().checked_add(patience).context("a very long patience")?;
        if !self.clear_field(until) {
            return Ok(false);
        }
        while clock::instant() < until {
            let cards = self.addresses.iter().filter_map(|at| dial(*at, self.patience).ok());
            self.cards = cards.collect();
            if !self.cards.is_empty() {
                return Ok(true);
            }
            std::thread::park_timeout(REDIAL);
        }
        Ok(false)
    }
}

impl Drop for CardAt {
    /// A card that has gone already needs no power-off.
    fn drop(&mut self) {
        for card in &mut self.cards {
            let _gone = write_frame(card, &[POWER_OFF]);
        }
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
        let mut reader = CardAt::connect(&[address], Duration::from_secs(30)).unwrap();
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
        let mut reader = CardAt::connect(&[address], Duration::from_secs(30)).unwrap();
        assert!(reader.transmit(&[0xDE, 0xAD]).is_err());
        assert!(reader.transmit(&[0x00, 0xA4]).is_err());
    }

    #[test]
    fn a_card_is_taken_away_and_presented_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let card = std::thread::spawn(move || {
            for _ in 0..2 {
                // Taken away with the field: the connection is closed.
                let (mut stream, _) = listener.accept().unwrap();
                let mut leaving = Leaving { resets: 0 };
                assert!(matches!(serve(&mut stream, &mut leaving), Ended::ByReader(Ok(()))));
            }
        });
        let patience = Duration::from_secs(30);
        let mut reader = CardAt::connect(&[address], patience).unwrap();
        assert_eq!(reader.transmit(&[0x00, 0xA4, 0x04, 0x00]).unwrap(), [0x6D, 0x00]);
        assert!(reader.present_again(patience).unwrap());
        assert_eq!(reader.transmit(&[0x00, 0xA4, 0x04, 0x00]).unwrap(), [0x6D, 0x00]);
        drop(reader);
        card.join().unwrap();
    }

    /// Leaves the field when it is switched off.
    struct Leaving {
        resets: usize,
    }

    impl VirtualCard for Leaving {
        fn reset(&mut self) {
            self.resets = self.resets.saturating_add(1);
        }

        fn transmit(&mut self, _command: &[u8]) -> anyhow::Result<Vec<u8>> {
            Ok(vec![0x6D, 0x00])
        }

        fn leaves(&self) -> bool {
            self.resets > 1
        }
    }

    #[test]
    fn several_addresses_are_several_cards_and_one_that_stays_is_not_presented_again() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let mut both = CardAt::connect(&addresses, Duration::from_secs(30)).unwrap();
        assert!(both.sees_several().unwrap());
        assert!(!both.present_again(Duration::from_millis(1)).unwrap());
        let mut one = CardAt::connect(&addresses[..1], Duration::from_secs(30)).unwrap();
        assert!(!one.sees_several().unwrap());
    }

    #[test]
    fn only_this_machine_is_near_enough() {
        assert!(loopback("127.0.0.1:1").is_ok() && loopback("[::1]:1").is_ok());
        for far in ["192.0.2.1:1", "0.0.0.0:1", "[2001:db8::1]:1", "localhost"] {
            assert!(loopback(far).is_err(), "{far}");
        }
    }
}
