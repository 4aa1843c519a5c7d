//! EXCHANGE RELAY RESISTANCE DATA `80 EA`: the terminal measures how far away the card is, and the card
//! says under the IAD-MAC how long it may take (Book C-8 21.10 to 21.25).

use alloc::vec::Vec;

use rand_core::CryptoRng;
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::status::StatusWord;
use tapfer_emv::{tags, tlv};

use super::Refusal;

/// AIP byte 2, bit 1: relay resistance is supported.
const RELAY_RESISTANCE_SUPPORTED: u8 = 0x01;
/// The first try and two more (Book C-8 21.20).
const TRIES: u8 = 3;

/// Least time the phone takes, in 100 µs: none. It may be as fast as it can, a relay never is.
const MINIMUM_PROCESSING_TIME: u16 = 0x0000;
/// Longest time the phone may take, in 100 µs: 30 ms. A phone answers from an app and not from a chip;
/// beyond 30 ms over the best time a terminal with the usual accuracy threshold (`9F8217` = `012C`)
/// notes the answer anyway. A bound that is set, not a time that was measured.
const MAXIMUM_PROCESSING_TIME: u16 = 0x012C;
/// Estimated time of the 14-byte answer on the air at 106 kbit/s, in 100 µs: what terminals expect
/// too (`9F8216` = `0018`).
const RESPONSE_TRANSMISSION_TIME: u16 = 0x0018;

/// The last exchange, as it goes into the IAD-MAC.
#[derive(Clone, Copy)]
pub(super) struct RelayExchange {
    pub(super) terminal_entropy: [u8; 4],
    pub(super) answer: [u8; 10],
}

/// How far the relay check has come.
#[derive(Default)]
pub(super) struct RelayCheck {
    tries: u8,
    closed: bool,
    last: Option<RelayExchange>,
}

impl RelayCheck {
    /// Records or data are being read: the check was made before, or is not made at all.
    pub(super) const fn close(&mut self) {
        self.closed = true;
    }

    /// What the IAD-MAC covers of the check, if it was made.
    pub(super) const fn last(&self) -> Option<&RelayExchange> {
        self.last.as_ref()
    }

    /// Answers one exchange. Only a card whose AIP promises the check makes it: the AIP is in the SDA
    /// hash, so nobody on the way can talk a terminal out of it.
    pub(super) fn exchange(
        &mut self,
        aip: [u8; 2],
        command: &CommandApdu,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Refusal> {
        if (command.p1, command.p2) != (0x00, 0x00) {
            return Err(StatusWord::INCORRECT_P1_P2.into());
        }
        let terminal_entropy =
            command.data.as_slice().try_into().map_err(|_| StatusWord::WRONG_LENGTH)?;
        let [_, options] = aip;
        if options & RELAY_RESISTANCE_SUPPORTED == 0 || self.closed || self.tries >= TRIES {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        }
        self.tries = self.tries.saturating_add(1);
        let mut device_entropy = [0; 4];
        rng.fill_bytes(&mut device_entropy);
        let answer = answer_value(device_entropy);
        self.last = Some(RelayExchange { terminal_entropy, answer });
        Ok(tlv::encode(tags::RESPONSE_TEMPLATE_FORMAT_1, &answer))
    }
}

/// Device entropy ‖ least time ‖ longest time ‖ time of the answer on the air.
fn answer_value(device_entropy: [u8; 4]) -> [u8; 10] {
    let [e0, e1, e2, e3] = device_entropy;
    let [minimum_0, minimum_1] = MINIMUM_PROCESSING_TIME.to_be_bytes();
    let [maximum_0, maximum_1] = MAXIMUM_PROCESSING_TIME.to_be_bytes();
    let [air_0, air_1] = RESPONSE_TRANSMISSION_TIME.to_be_bytes();
    [e0, e1, e2, e3, minimum_0, minimum_1, maximum_0, maximum_1, air_0, air_1]
}
