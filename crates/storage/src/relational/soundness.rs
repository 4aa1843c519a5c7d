//! Whether what stands in the tables fits together: what no single row can show.
//!
//! Each rule is a statement that finds the rows which break it. The words are those of both engines.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use tapfer_payment_types::Money;
use tapfer_payments::authorization::Outcome;

use super::rows::{Columns, Read, all, each, first};
use super::sql::{Connection, Row, params};
use super::{Result, audit_chain, issuers, policies};
use crate::StorageError;

/// So many rows are named of each kind of damage.
const NAMED: i64 = 5;

/// What was looked at, and what is wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Soundness {
    /// What was compared, in order.
    pub checked: Vec<Checked>,
    /// The first of each kind of damage; nothing where the database is sound.
    pub faults: Vec<Unsound>,
    /// What is no damage, and somebody may want to know.
    pub remarks: Vec<String>,
}

/// Something that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// In words.
    pub what: &'static str,
    /// How many rows, entries or frames.
    pub count: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsound {
    /// Which table or file.
    pub place: String,
    /// Which row, as far as there is one.
    pub row: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub to_do: &'static str,
}

/// Nothing in the books is put right by hand.
pub(crate) const RESTORE: &str = "change nothing by hand: keep a copy, find out who had access or which disk fails, and go back to the newest backup \
                                  that `tapfer db check` finds sound (docs/disaster-recovery.md)";
/// What a log that is damaged or gone leaves to choose from.
pub(crate) const CUT_LOG: &str = "change nothing by hand: keep a copy, and look for the log where the database was copied or moved; restore a backup that \
                                  is older than the damage, if what was paid behind it is less than what stands in the log behind the damage; else go on \
                                  without that: tapfer db cut-log (docs/disaster-recovery.md)";
const COMPARE: &str = "change nothing by hand: keep a copy, compare this payment with the till's receipt and the audit log, and find out \
                       who had access";

const ADDED: &str = "find out who had the platform's login to the database, and take away what he added, as its owner \
                     (docs/disaster-recovery.md, rows that stop a platform); PUT /v1/issuers/{issuer}/policy sets the next policy";

impl Soundness {
    pub(crate) fn checked(&mut self, what: &'static str, count: u64) {
        self.checked.push(Checked { what, count });
    }

    pub(crate) fn fault(&mut self, place: &str, row: impl ToString, what: impl ToString) {
        let (place, row, what) = (place.to_owned(), row.to_string(), what.to_string());
        self.faults.push(Unsound { place, row, what, to_do: RESTORE });
    }

    /// What could not even be read is damage that has a name.
    pub(crate) fn unless_readable<T>(&mut self, place: &str, read: Result<T>) -> Option<T> {
        read.map_err(|error| self.fault(place, "", error)).ok()
    }
}

/// What has to be so.
struct Rule {
    what: &'static str,
    table: &'static str,
    /// The rows that break it, as `id`.
    broken: &'static str,
    fault: &'static str,
    to_do: &'static str,
}

/// What all transfers but top-ups and pay-outs are about, by the payment intent.
macro_rules! by_intent {
    ($rest:literal) => {
        concat!(
            "WITH told AS (
                 SELECT t.sequence, t.kind, t.amount, coalesce(a.payment_intent_id, ra.payment_intent_id,
                     f.payment_intent_id, p.id) AS intent
                 FROM ledger_transfers AS t
                 LEFT JOIN authorizations AS a ON a.id = t.cause
                 LEFT JOIN reversals AS r ON r.id = t.cause
                 LEFT JOIN authorizations AS ra ON ra.id = r.authorization_id
                 LEFT JOIN refunds AS f ON f.id = t.cause
                 LEFT JOIN payment_intents AS p ON p.id = t.cause
                 WHERE t.kind NOT IN ('top_up', 'pay_out'))
             ",
            $rest
        )
    };
}

const RULES: [Rule; 18] = [
    Rule {
        what: "balances against the sum of bookings",
        table: "accounts",
        broken: "SELECT kind || ' ' || owner || ' ' || currency AS id FROM (
                     SELECT kind, owner, currency, sum(balance) AS balance, sum(booked) AS booked FROM (
                         SELECT kind, owner, currency, balance, 0 AS booked FROM accounts
                         UNION ALL SELECT to_kind, to_owner, currency, 0, amount FROM ledger_transfers
                         UNION ALL SELECT from_kind, from_owner, currency, 0, -amount FROM ledger_transfers
                     ) AS moves GROUP BY kind, owner, currency) AS sums
                 WHERE balance <> booked",
        fault: "its balance is not the sum of what was booked on it",
        to_do: RESTORE,
    },
    Rule {
        what: "balances that may not be below zero",
        table: "accounts",
        broken: "SELECT kind || ' ' || owner || ' ' || currency AS id FROM accounts
                 WHERE balance < 0 AND kind NOT IN ('issuer_funding', 'issuer_loss')",
        fault: "it is below zero, and only issuers' may be",
        to_do: RESTORE,
    },
    Rule {
        what: "bookings from where to where their kind goes",
        table: "ledger_transfers",
        broken: "SELECT sequence || '' AS id FROM ledger_transfers
                 WHERE amount <= 0 OR kind || ' ' || from_kind || ' ' || to_kind NOT IN (
                     'top_up issuer_funding cardholder', 'hold cardholder held', 'capture held merchant_payable',
                     'release held cardholder', 'refund merchant_payable cardholder',
                     'reversal merchant_payable cardholder', 'loss issuer_loss cardholder',
                     'pay_out cardholder issuer_funding')",
        fault: "no booking of this kind goes so",
        to_do: RESTORE,
    },
    Rule {
        what: "bookings with a cause",
        table: "ledger_transfers",
        broken: by_intent!("SELECT sequence || '' AS id FROM told WHERE intent IS NULL"),
        fault: "what it was booked for is not there",
        to_do: COMPARE,
    },
    Rule {
        what: "approvals with the one hold of their amount",
        table: "authorizations",
        broken: "SELECT a.id AS id FROM authorizations AS a LEFT JOIN (
                     SELECT cause, count(*) AS number, sum(amount) AS amount, min(currency) AS currency,
                         min(from_owner) AS card
                     FROM ledger_transfers WHERE kind = 'hold' GROUP BY cause) AS h ON h.cause = a.id
                 WHERE CASE WHEN a.outcome = 0
                     THEN coalesce(h.number, 0) <> 1 OR h.amount <> a.amount OR h.currency <> a.currency
                         OR h.card <> a.card_id
                     ELSE h.number IS NOT NULL END",
        fault: "an approval has one hold of its amount on its card, and nothing else has one",
        to_do: COMPARE,
    },
    Rule {
        what: "payment intents against holds, captures, releases, refunds and reversals",
        table: "payment_intents",
        broken: by_intent!(
            ", booked AS (
                 SELECT intent, sum(CASE kind WHEN 'hold' THEN amount ELSE 0 END) AS held,
                     sum(CASE kind WHEN 'capture' THEN amount ELSE 0 END) AS captured,
                     sum(CASE kind WHEN 'release' THEN amount ELSE 0 END) AS released,
                     sum(CASE kind WHEN 'refund' THEN amount ELSE 0 END) AS refunded,
                     sum(CASE kind WHEN 'reversal' THEN amount ELSE 0 END) AS reversed
                 FROM told GROUP BY intent)
             SELECT p.id AS id FROM payment_intents AS p LEFT JOIN booked AS b ON b.intent = p.id
             WHERE p.captured <> coalesce(b.captured, 0) OR p.refunded <> coalesce(b.refunded, 0)
                 OR coalesce(b.held - b.captured - b.released, 0)
                     <> CASE p.status WHEN 'requires_capture' THEN p.amount ELSE 0 END
                 OR coalesce(b.reversed, 0)
                     <> CASE p.status WHEN 'canceled' THEN p.captured - p.refunded ELSE 0 END"
        ),
        fault: "what was booked for it is not what it says",
        to_do: COMPARE,
    },
    Rule {
        what: "payment intents with the approval that they name",
        table: "payment_intents",
        broken: "SELECT p.id AS id FROM payment_intents AS p
                 LEFT JOIN authorizations AS a ON a.id = p.authorization_id
                 WHERE p.authorization_id IS NOT NULL AND (a.id IS NULL OR a.outcome <> 0
                     OR a.payment_intent_id <> p.id OR a.amount <> p.amount OR a.currency <> p.currency)",
        fault: "the approval that it names is not there, or is of another payment",
        to_do: COMPARE,
    },
    Rule {
        what: "approvals with the payment intent that names them",
        table: "authorizations",
        broken: "SELECT a.id AS id FROM authorizations AS a
                 LEFT JOIN payment_intents AS p ON p.id = a.payment_intent_id
                 WHERE p.id IS NULL OR (a.outcome = 0 AND coalesce(p.authorization_id, '') <> a.id)",
        fault: "its payment intent does not name it",
        to_do: COMPARE,
    },
    Rule {
        what: "refunds with their bookings",
        table: "refunds",
        broken: "SELECT f.id AS id FROM refunds AS f LEFT JOIN (
                     SELECT cause, sum(amount) AS amount FROM ledger_transfers WHERE kind = 'refund' GROUP BY cause
                 ) AS t ON t.cause = f.id
                 WHERE coalesce(t.amount, 0) <> f.amount",
        fault: "it was not booked, or not with its amount",
        to_do: COMPARE,
    },
    Rule {
        what: "reversals with their bookings",
        table: "reversals",
        broken: "SELECT r.id AS id FROM reversals AS r LEFT JOIN (
                     SELECT cause, sum(amount) AS amount FROM ledger_transfers
                     WHERE kind IN ('release', 'reversal') GROUP BY cause) AS t ON t.cause = r.id
                 WHERE coalesce(t.amount, 0) <> r.amount",
        fault: "it was not booked, or not with its amount",
        to_do: COMPARE,
    },
    Rule {
        what: "approvals with the counter that they spent",
        table: "authorizations",
        broken: "SELECT a.id AS id FROM authorizations AS a LEFT JOIN transaction_counters AS c
                     ON c.token_id = a.token_id
                     AND c.application_transaction_counter = a.application_transaction_counter
                 WHERE a.outcome = 0 AND (c.token_id IS NULL OR c.verified <> 1
                     OR (a.stand_in = 0 AND c.authorization_id <> a.id))",
        fault: "its counter is not spent, or by another one: it could be paid with once more",
        to_do: RESTORE,
    },
    Rule {
        what: "counters with the decision that spent them",
        table: "transaction_counters",
        broken: "SELECT c.token_id || ' ' || c.application_transaction_counter AS id FROM transaction_counters AS c
                 LEFT JOIN authorizations AS a ON a.id = c.authorization_id
                     AND a.token_id = c.token_id
                     AND a.application_transaction_counter = c.application_transaction_counter
                 WHERE a.id IS NULL",
        fault: "the decision that spent it is not there, or is of another counter",
        to_do: RESTORE,
    },
    Rule {
        what: "counters of a token that rise from approval to approval",
        table: "authorizations",
        broken: "SELECT id FROM (
                     SELECT a.id AS id, a.application_transaction_counter AS counter,
                         lag(a.application_transaction_counter)
                             OVER (PARTITION BY a.token_id ORDER BY t.sequence) AS previous
                     FROM ledger_transfers AS t JOIN authorizations AS a ON a.id = t.cause
                     WHERE t.kind = 'hold' AND a.outcome = 0 AND a.stand_in = 0) AS approvals
                 WHERE counter <= previous",
        fault: "its counter is not above that of the approval before it",
        to_do: COMPARE,
    },
    Rule {
        what: "losses of issuers with the payment that a node promised alone",
        table: "ledger_transfers",
        broken: "SELECT t.sequence || '' AS id FROM ledger_transfers AS t
                 LEFT JOIN authorizations AS a ON a.id = t.cause
                     AND a.outcome = 0 AND a.stand_in = 1 AND a.card_id = t.to_owner AND a.amount >= t.amount
                 WHERE t.kind = 'loss' AND a.id IS NULL",
        fault: "an issuer lost what nobody was promised",
        to_do: COMPARE,
    },
    Rule {
        what: "decisions with their line in the audit log",
        table: "authorizations",
        broken: "SELECT a.id AS id FROM authorizations AS a
                 LEFT JOIN (SELECT DISTINCT object FROM ({LINES}) AS lines WHERE action = 'authorization.decided') AS told
                     ON told.object = a.id
                 WHERE told.object IS NULL",
        fault: "the audit log does not tell of it",
        to_do: COMPARE,
    },
    Rule {
        what: "issuers with the policy that they name",
        table: "issuers",
        broken: "SELECT i.id AS id FROM issuers AS i
                 LEFT JOIN issuer_policies AS p ON p.issuer_id = i.id AND p.version = i.policy_version
                 WHERE p.version IS NULL",
        fault: "the version of its policy is not there: its payments cannot be decided",
        to_do: ADDED,
    },
    Rule {
        what: "policies up to the one that their issuer names",
        table: "issuer_policies",
        broken: "SELECT p.issuer_id || ' ' || p.version AS id FROM issuer_policies AS p
                 JOIN issuers AS i ON i.id = p.issuer_id WHERE p.version > i.policy_version",
        fault: "no platform has set it; the next policy steps over it",
        to_do: ADDED,
    },
    Rule {
        what: "lines about decisions with the decision",
        table: "audit_events",
        broken: "SELECT told.object AS id FROM ({LINES}) AS told LEFT JOIN authorizations AS a ON a.id = told.object
                 WHERE told.action = 'authorization.decided' AND a.id IS NULL",
        fault: "the decision that it tells of is not there",
        to_do: RESTORE,
    },
];

/// Compares everything. `lines` selects action and object of all lines of the audit log.
pub(crate) fn check(connection: &Connection, lines: &str, found: &mut Soundness) {
    for rule in &RULES {
        let rows = rule.check(connection, lines, found);
        found.unless_readable(rule.table, rows);
    }
    let parties = parties(connection, found);
    found.unless_readable("issuers", parties);
    let answers = answers(connection, found);
    found.unless_readable("idempotency_answers", answers);
    let chain = chain(connection, found);
    found.unless_readable("audit_events", chain);
}

impl Rule {
    fn check(&self, connection: &Connection, lines: &str, found: &mut Soundness) -> Result<()> {
        let count = format!("SELECT count(*) AS number FROM {}", self.table);
        found.checked(self.what, number(connection, &count)?);
        let broken = self.broken.replace("{LINES}", lines);
        let broken = format!("{broken} ORDER BY 1 LIMIT {NAMED}");
        for row in all(connection, &broken, params![], id)? {
            let (place, what) = (self.table.to_owned(), self.fault.to_owned());
            found.faults.push(Unsound { place, row, what, to_do: self.to_do });
        }
        Ok(())
    }
}

pub(crate) fn id(row: &Row<'_>) -> Result<String> {
    Columns::keyed(row, "", "id").get("id")
}

pub(crate) fn number(connection: &Connection, sql: &str) -> Result<u64> {
    let counted = first(connection, sql, params![], |row| {
        Columns::keyed(row, "", "number").number("number")
    })?;
    Ok(counted.unwrap_or(0))
}

/// Rows of which one that makes no sense would stop all.
fn parties(connection: &Connection, found: &mut Soundness) -> Result<()> {
    let readers: [(&str, Read<()>); 2] = [
        ("SELECT * FROM issuers ORDER BY id", |row| issuers::read(row).map(drop)),
        ("SELECT * FROM issuer_policies ORDER BY issuer_id, version", |row| {
            policies::read(row).map(drop)
        }),
    ];
    let mut count = 0_u64;
    for (sql, read) in readers {
        each(connection, sql, params![], |row| {
            count = count.saturating_add(1);
            match read(row) {
                Err(StorageError::Inconsistent(broken)) => {
                    let place = broken.table.to_owned();
                    let what = format!("column {} makes no sense", broken.column);
                    found.faults.push(Unsound { place, row: broken.id, what, to_do: ADDED });
                }
                read => read?,
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    found.checked("issuers and policies that can be read", count);
    Ok(())
}

/// Answers that are kept in clear and tell of a decision name one that is there, and tell what was decided; and each is vouched for,
/// which by whom only the platform's keys can tell.
fn answers(connection: &Connection, found: &mut Soundness) -> Result<()> {
    let (mut told, mut count) = (BTreeMap::<_, BTreeSet<_>>::new(), 0_u64);
    let kept = "SELECT key, body FROM idempotency_answers";
    each(connection, kept, params![], |row| {
        let body: Vec<u8> = Columns::keyed(row, "idempotency_answers", "key").get("body")?;
        if let Some((decision, answer)) = Told::of(&body) {
            told.entry(decision).or_default().insert(answer);
        }
        count = count.saturating_add(1);
        Ok(ControlFlow::Continue(()))
    })?;
    found.checked("answers for repeated requests with the decision that they tell", count);
    let mut others = Vec::new();
    if !told.is_empty() {
        let decided = "SELECT id, outcome, amount, currency FROM authorizations";
        each(connection, decided, params![], |row| {
            let decision = id(row)?;
            if let Some(answers) = told.remove(&decision) {
                let columns = Columns::new(row, "authorizations");
                let outcome = Outcome::from_number(columns.number("outcome")?);
                let amount = columns.money("amount")?;
                if !answers.iter().all(|answer| answer.tells(outcome, amount)) {
                    others.push(decision);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    let most = usize::try_from(NAMED).unwrap_or(0);
    for decision in told.keys().take(most) {
        let what = "a till that asks again is told of a decision that is not there";
        found.fault("idempotency_answers", decision, what);
    }
    for decision in others.iter().take(most) {
        let what = "a till that asks again is told another outcome or amount than was decided";
        found.fault("idempotency_answers", decision, what);
    }
    let unvouched = format!(
        "SELECT api_key_id || ' ' || key AS id FROM kept_answers WHERE mac IS NULL AND from_before = 0 ORDER BY 1 LIMIT {NAMED}"
    );
    for answer in all(connection, &unvouched, params![], id)? {
        found.fault("idempotency_answers", answer, "no platform has given this answer");
    }
    Ok(())
}

/// What an answer tells of a decision, as far as it does.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    outcome: Option<String>,
    reason: Option<String>,
    amount: Option<i64>,
    currency: Option<String>,
}

impl Told {
    /// With the decision that it names.
    fn of(body: &[u8]) -> Option<(String, Self)> {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        let text = |name| Some(answer.get(name)?.as_str()?.to_owned());
        let decision: String = text("id")?;
        let amount = answer.get("amount").and_then(serde_json::Value::as_i64);
        let (outcome, reason, currency) = (text("outcome"), text("reason"), text("currency"));
        decision
            .starts_with("auth_")
            .then_some((decision, Self { outcome, reason, amount, currency }))
    }

    fn tells(&self, outcome: Option<Outcome>, amount: Money) -> bool {
        let Some(decided) = outcome else { return false };
        let word = if decided.is_approved() { "approved" } else { "declined" };
        self.outcome.as_deref().is_none_or(|told| told == word)
            && self.reason.as_deref().is_none_or(|told| told == decided.slug())
            && self.amount.is_none_or(|told| told == amount.minor)
            && self.currency.as_deref().is_none_or(|told| told == amount.currency.code())
    }
}

fn chain(connection: &Connection, found: &mut Soundness) -> Result<()> {
    let report = match audit_chain::verify(connection) {
        Err(StorageError::Inconsistent(broken)) => {
            found.fault(
                broken.table,
                &broken.id,
                format!("column {} makes no sense", broken.column),
            );
            return Ok(());
        }
        report => report?,
    };
    found.checked("lines of the audit log with their chain", report.sound.sequence);
    if let Some(fault) = report.fault {
        found.fault("audit_events", report.sound.sequence.saturating_add(1), fault);
    }
    let cut = report.heads.iter().filter(|(_, end)| end.is_none()).count();
    if cut > 0 && report.fault.is_none() {
        found.fault("audit_heads", "", "the audit log ends before a head that was signed");
    }
    Ok(())
}
