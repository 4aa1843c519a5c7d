//! One thing that a node did alone, as its journal keeps it.

use tapfer_payment_types::{PaymentIntentId, Timestamp};
use tapfer_payments::audit::{AuditAction, Caller};
use tapfer_payments::intents::PaymentIntent;

use crate::decided::Decided;
use crate::idempotency::GivenAnswer;
use crate::journal::bytes::{NoRecord, Put, Take};
use crate::journal::record;

type Result<T> = std::result::Result<T, NoRecord>;

/// What becomes of an intent beside decisions, each at its number. The order is never changed.
const ACTIONS: [AuditAction; 3] =
    [AuditAction::IntentCreated, AuditAction::IntentArmed, AuditAction::IntentCanceled];
const CHANGED: u8 = 1;
const DECIDED: u8 = 2;
/// Behind each record: what was never written, and reads as zeros, is told from what was.
const END: u8 = 0xA5;

/// Something that a node did alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// An intent was made, armed or given up.
    Changed(Box<Changed>),
    /// A payment was decided.
    Decided(Box<Promise>),
}

/// An intent was made, armed or given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) action: AuditAction,
    /// As it stands then.
    pub(crate) intent: PaymentIntent,
    pub(crate) caller: Caller,
    pub(crate) at: Timestamp,
    pub(crate) answer: Option<GivenAnswer>,
}

/// A payment that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) decided: Decided,
    /// How many payments of its key this one took up, and how much: others may have used the key as well.
    pub(crate) of_key: (u16, i64),
}

impl Record {
    /// Which intent it is about.
    pub(crate) const fn intent(&self) -> PaymentIntentId {
        match self {
            Self::Changed(changed) => changed.intent.id,
            Self::Decided(promise) => promise.decided.authorization.payment_intent,
        }
    }

    /// When it was done.
    pub(super) const fn at(&self) -> Timestamp {
        match self {
            Self::Changed(changed) => changed.at,
            Self::Decided(promise) => promise.decided.authorization.created_at,
        }
    }

    /// What was answered.
    pub(crate) fn answer(&self) -> Option<&GivenAnswer> {
        match self {
            Self::Changed(changed) => changed.answer.as_ref(),
            Self::Decided(promise) => promise.decided.answer.as_ref(),
        }
    }

    /// Puts it behind what is there.
    pub(super) fn put(&self, to: &mut Put) {
        self.put_content(to);
        to.raw(&[END]);
    }

    fn put_content(&self, to: &mut Put) {
        match self {
            Self::Changed(changed) => {
                let number = ACTIONS.iter().position(|action| *action == changed.action);
                let number = number.and_then(|number| u8::try_from(number).ok());
                to.raw(&[CHANGED, number.unwrap_or(u8::MAX)]);
                record::put_intent(to, &changed.intent);
                record::put_caller(to, &changed.caller);
                to.raw(&changed.at.unix_millis().to_be_bytes());
                record::put_answer(to, changed.answer.as_ref());
            }
            Self::Decided(promise) => {
                to.raw(&[DECIDED]);
                record::put(to, &promise.decided);
                to.raw(&promise.of_key.0.to_be_bytes());
                to.raw(&promise.of_key.1.to_be_bytes());
            }
        }
    }

    /// Takes one from the front.
    pub(super) fn take(from: &mut Take<'_>) -> Result<Self> {
        let record = Self::take_content(from)?;
        if from.u8("end")? == END { Ok(record) } else { Err(NoRecord("end")) }
    }

    fn take_content(from: &mut Take<'_>) -> Result<Self> {
        match from.u8("kind")? {
            CHANGED => {
                let number = usize::from(from.u8("action")?);
                Ok(Self::Changed(Box::new(Changed {
                    action: *ACTIONS.get(number).ok_or(NoRecord("action"))?,
                    intent: record::take_intent(from)?,
                    caller: record::take_caller(from)?,
                    at: record::take_time(from, "changed at")?,
                    answer: record::take_answer(from)?,
                })))
            }
            DECIDED => {
                let decided = record::take(from)?;
                let of_key = (from.u16("use of the key")?, from.i64("use of the key")?);
                Ok(Self::Decided(Box::new(Promise { decided, of_key })))
            }
            _ => Err(NoRecord("kind")),
        }
    }
}
