//! A payment that waits for the person: she was asked for this one, and answers for no other.

use tapfer_emv::merchant::MerchantIdentity;
use tapfer_payment_types::{Timestamp, TokenId};

use crate::payment::PaymentAmount;
use crate::pin::ENTERED_FOR_SECONDS;

/// So long after the question an unlocked phone counts as the answer to it, and no other payment that needs
/// the person is asked about: the phone, unlocked for the first, would look like the answer to that as well.
const UNLOCKED_FOR_MILLIS: i64 = 60_000;
/// So long after the question a PIN counts as the answer to it: five minutes to see the phone and enter
/// it, and the minute for which it is good then.
const PIN_FOR_MILLIS: i64 = (300 + ENTERED_FOR_SECONDS) * 1_000;

/// What the person sees when she is asked, and agrees to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AskedPayment {
    pub(super) token: TokenId,
    pub(super) amount: PaymentAmount,
    /// Who is paid, if that was proven. Who was proven once has to be proven again.
    pub(super) merchant: Option<MerchantIdentity>,
}

/// The last question. In memory only: a phone that starts again asks again.
pub(super) struct Asked {
    /// `None`: the person has said that she does not want this payment. Whatever comes next is another one, and
    /// has to be asked about, although the phone is unlocked by now.
    payment: Option<AskedPayment>,
    at: Timestamp,
}

impl Asked {
    pub(super) const fn about(payment: AskedPayment, at: Timestamp) -> Self {
        Self { payment: Some(payment), at }
    }

    /// The person says no on the phone, which no reader can do for her: the question keeps nobody out any more, and
    /// what she did is the answer to nothing, for a minute from now on.
    pub(super) const fn withdraw(&mut self, now: Timestamp) {
        (self.payment, self.at) = (None, now);
    }

    /// Whether what the person does now is the answer to this question, and `payment` is another one.
    pub(super) fn is_about_other(
        &self,
        payment: &AskedPayment,
        pin_is_entered: bool,
        now: Timestamp,
    ) -> bool {
        let age = now.millis_since(self.at);
        let is_open = age < UNLOCKED_FOR_MILLIS || (pin_is_entered && age < PIN_FOR_MILLIS);
        is_open && self.payment != Some(*payment)
    }

    /// Whether this question keeps its place while `payment` is asked for. A clock that was set back must not
    /// keep every other payment waiting.
    pub(super) fn keeps_out(&self, payment: &AskedPayment, now: Timestamp) -> bool {
        let age = now.millis_since(self.at);
        let is_other = self.payment.is_some_and(|asked| asked != *payment);
        (0..UNLOCKED_FOR_MILLIS).contains(&age) && is_other
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, AskedPayment};
    use crate::payment::PaymentAmount;
    use tapfer_payment_types::{Timestamp, TokenId};

    #[test]
    fn a_question_is_open_for_a_minute_and_with_a_pin_for_six() {
        let at: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let payment = |minor| AskedPayment {
            token: TokenId::new(at, [1; 10]),
            amount: PaymentAmount::new(minor, 978),
            merchant: None,
        };
        let mut asked = Asked::about(payment(3_000), at);
        let is_other = |minor, pin, seconds| {
            asked.is_about_other(&payment(minor), pin, at.plus_seconds(seconds))
        };
        assert!(is_other(3_001, false, 0) && is_other(3_001, false, 59));
        assert!(!is_other(3_001, false, 60) && !is_other(3_000, false, 0));
        assert!(is_other(3_001, true, 359) && !is_other(3_001, true, 360));
        // A clock that was set back leaves the question open.
        assert!(is_other(3_001, false, -3_600));
        let is_kept_out =
            |minor, seconds| asked.keeps_out(&payment(minor), at.plus_seconds(seconds));
        assert!(is_kept_out(3_001, 0) && is_kept_out(3_001, 59));
        assert!(!is_kept_out(3_001, 60) && !is_kept_out(3_001, -1) && !is_kept_out(3_000, 0));
        // Withdrawn: for a minute, whatever comes is another payment, and nobody is kept out.
        asked.withdraw(at.plus_seconds(55));
        for (minor, seconds, is_other) in
            [(3_000, 55, true), (3_001, 65, true), (3_000, 114, true), (3_000, 115, false)]
        {
            let now = at.plus_seconds(seconds);
            assert_eq!(asked.is_about_other(&payment(minor), false, now), is_other, "{seconds}");
            assert!(!asked.keeps_out(&payment(minor), now));
        }
    }
}
