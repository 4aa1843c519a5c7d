//! EXCHANGE RELAY RESISTANCE DATA: is the card as near as it says? (Book C-8 21.10 to 21.25)
//!
//! Times are in 100 µs. A relay adds its own delay to the answer, and the card has said before, and
//! signs later, how long it takes for an answer.

use core::time::Duration;

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::tags;
use tapfer_emv::tvr;

use super::configuration::RelayResistanceConfiguration;
use super::outcome::ErrorLevel2;
use super::records::{self, Channel};
use super::transaction::{Failure, Transaction};
use super::{Phase, Step};

/// The first attempt and two more.
const LAST_ATTEMPT: u8 = 3;

/// The unpredictable number as the terminal's entropy, and the value of the last answer: both go into
/// the IAD-MAC.
#[derive(Debug, Clone, Copy)]
pub(super) struct RelayProof {
    pub(super) terminal_entropy: [u8; 4],
    pub(super) last_answer: [u8; 10],
}

/// The command was sent.
pub(super) struct AwaitingRelayAnswer {
    pub(super) transaction: Transaction,
    channel: Channel,
    terminal_entropy: [u8; 4],
    attempt: u8,
}

pub(super) fn start(transaction: Transaction, channel: Channel) -> Step {
    let terminal_entropy = transaction.data.array(tags::UNPREDICTABLE_NUMBER).unwrap_or_default();
    AwaitingRelayAnswer { transaction, channel, terminal_entropy, attempt: 1 }.send()
}

impl AwaitingRelayAnswer {
    fn send(self) -> Step {
        let command = CommandApdu::new(0x80, 0xEA, 0x00, 0x00, self.terminal_entropy.to_vec());
        Step::send(Phase::Relay(self), command)
    }

    pub(super) fn handle(mut self, response: &ResponseApdu, elapsed: Duration) -> Step {
        let measured = match Answer::read(response).and_then(|answer| {
            let measurement =
                answer.measure(elapsed, &self.transaction.configuration.relay_resistance);
            self.judge(&answer, &measurement)?;
            Ok((answer, measurement))
        }) {
            Ok(measured) => measured,
            Err(failure) => return Step::finished(self.transaction.end_application(failure)),
        };
        let (answer, measurement) = measured;
        if measurement.too_slow && self.attempt < LAST_ATTEMPT {
            self.attempt = self.attempt.saturating_add(1);
            return self.send();
        }
        if measurement.too_slow {
            self.transaction.set_tvr_bit(tvr::RELAY_TIME_LIMITS_EXCEEDED);
        }
        if measurement.implausible {
            self.transaction.set_tvr_bit(tvr::RELAY_THRESHOLD_EXCEEDED);
        }
        self.transaction.set_tvr_bit(tvr::RELAY_RESISTANCE_PERFORMED);
        let proof =
            RelayProof { terminal_entropy: self.terminal_entropy, last_answer: answer.value };
        records::start(self.transaction, self.channel, Some(proof))
    }

    /// Faster than the card itself says it can be: not this card's answer (Book C-8 21.18).
    fn judge(&mut self, answer: &Answer, measurement: &Measurement) -> Result<(), Failure> {
        let excess = u16::try_from(measurement.excess).unwrap_or(u16::MAX);
        self.transaction.data.set(tags::RELAY_RESISTANCE_TIME_EXCESS, &excess.to_be_bytes());
        let grace = self.transaction.configuration.relay_resistance.minimum_grace_period;
        if measurement.processing_time < u32::from(answer.minimum.saturating_sub(grace)) {
            return Err(ErrorLevel2::CardData.into());
        }
        Ok(())
    }
}

/// `80 0A`: device entropy, minimum and maximum time for processing, estimated transmission time.
struct Answer {
    value: [u8; 10],
    minimum: u16,
    maximum: u16,
    estimated_response_time: u16,
}

/// What the clock says about an answer.
struct Measurement {
    processing_time: u32,
    excess: u32,
    too_slow: bool,
    implausible: bool,
}

impl Answer {
    fn read(response: &ResponseApdu) -> Result<Self, Failure> {
        if !response.status.is_ok() {
            return Err(Failure::refused(response.status.bytes()));
        }
        let value: [u8; 10] = match response.data.as_slice() {
            [0x80, 0x0A, value @ ..] => value.try_into().map_err(|_| ErrorLevel2::Parsing)?,
            _ => return Err(ErrorLevel2::Parsing.into()),
        };
        let [_, _, _, _, a, b, c, d, e, f] = value;
        Ok(Self {
            value,
            minimum: u16::from_be_bytes([a, b]),
            maximum: u16::from_be_bytes([c, d]),
            estimated_response_time: u16::from_be_bytes([e, f]),
        })
    }

    /// Book C-8 21.17: what remains of the elapsed time without the time on the air.
    fn measure(&self, elapsed: Duration, limits: &RelayResistanceConfiguration) -> Measurement {
        let elapsed = elapsed.as_micros().checked_div(100).unwrap_or(0).min(0xFFFF);
        let on_air = u32::from(limits.expected_command_time).saturating_add(u32::from(
            self.estimated_response_time.min(limits.expected_response_time),
        ));
        let processing_time = u32::try_from(elapsed).unwrap_or(0xFFFF).saturating_sub(on_air);
        let maximum = u32::from(self.maximum);
        let slowest = maximum.saturating_add(u32::from(limits.maximum_grace_period));
        Measurement {
            processing_time,
            excess: processing_time.saturating_sub(maximum),
            too_slow: processing_time > slowest,
            implausible: self.is_implausible(processing_time, limits),
        }
    }

    /// Book C-8 21.24: card and terminal expect very different times on the air, or the answer took
    /// much longer than the card's best. Only where both say how long the air takes.
    fn is_implausible(&self, processing_time: u32, limits: &RelayResistanceConfiguration) -> bool {
        let threshold = u32::from(limits.mismatch_threshold);
        let card = u32::from(self.estimated_response_time);
        let terminal = u32::from(limits.expected_response_time);
        let percent = |part: u32, whole: u32| part.saturating_mul(100).checked_div(whole);
        let (Some(of_terminal), Some(of_card)) = (percent(card, terminal), percent(terminal, card))
        else {
            return false;
        };
        let over_best = processing_time.saturating_sub(u32::from(self.minimum));
        of_terminal < threshold
            || of_card < threshold
            || over_best > u32::from(limits.accuracy_threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Duration, RelayResistanceConfiguration};

    const LIMITS: RelayResistanceConfiguration = RelayResistanceConfiguration {
        minimum_grace_period: 20,
        maximum_grace_period: 50,
        expected_command_time: 18,
        expected_response_time: 24,
        accuracy_threshold: 300,
        mismatch_threshold: 50,
    };

    fn answer(minimum: u16, maximum: u16, estimated_response_time: u16) -> Answer {
        Answer { value: [0; 10], minimum, maximum, estimated_response_time }
    }

    /// elapsed in 100 µs → processing time, excess, too slow, implausible
    #[test]
    fn the_clock_in_a_table() {
        let table = [
            (answer(0, 100, 24), 0, (0, 0, false, false)),
            (answer(0, 100, 24), 42, (0, 0, false, false)),
            (answer(0, 100, 24), 142, (100, 0, false, false)),
            (answer(0, 100, 24), 192, (150, 50, false, false)),
            (answer(0, 100, 24), 193, (151, 51, true, false)),
            (answer(0, 500, 24), 343, (301, 0, false, true)),
            (answer(0, 500, 24), 342, (300, 0, false, false)),
            // The card's own time on the air counts if it is shorter.
            (answer(0, 100, 12), 130, (100, 0, false, false)),
            (answer(0, 100, 11), 130, (101, 1, false, true)),
            (answer(0, 100, 49), 130, (88, 0, false, true)),
            (answer(0, 100, 48), 130, (88, 0, false, false)),
            // No estimate, no comparison.
            (answer(0, 100, 0), 900, (882, 782, true, false)),
        ];
        for (answer, units, expected) in table {
            let m = answer.measure(Duration::from_micros(units * 100), &LIMITS);
            let got = (m.processing_time, m.excess, m.too_slow, m.implausible);
            assert_eq!(got, expected, "{units}");
        }
    }

    #[test]
    fn a_clock_that_stood_still_for_ages_does_not_overflow() {
        let m = answer(0, 0xFFFF, 24).measure(Duration::MAX, &LIMITS);
        assert_eq!(m.processing_time, 0xFFFF - 42);
    }
}
