//! What a lot of decisions rests on, read at once: a statement for each table, all of them in one round trip.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::{
    CardId, DeviceId, IssuerId, MerchantId, PaymentIntentId, TerminalId, TokenId,
};
use tapfer_payments::authorization::{PresentedPayment, SpentCounter};
use tapfer_payments::integrity::Verdict;
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::issuers::Issuer;
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::merchants::Merchant;
use tapfer_payments::policies::IssuedPolicy;
use tapfer_payments::terminals::Terminal;
use tapfer_payments::tokens::Token;
use tokio_postgres::Row;

use super::session::{Asked, Session};
use crate::hot::{HotCard, HotIssuer, HotTerminal, HotToken, SpentCounters, Tables};
use crate::relational::rows::{Columns, Read, found};
use crate::relational::{
    Result, cards, integrity, intents, issuers, lookup, merchants, pins, policies, sql, terminals,
    tokens,
};
use crate::{FactsQuery, PresentedToken, StorageError};

static SPENT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} JOIN unnest(?1::text[], ?2::bigint[]) AS wanted (token, counter)
         ON counters.token_id = wanted.token
             AND counters.application_transaction_counter = wanted.counter",
        lookup::SPENT
    )
});
const TOKENS_WITH_NUMBERS: &str = "SELECT * FROM tokens WHERE number_hash = ANY (?1::bytea[])";
/// Which of these payments are there, and whether they are the merchants' of the terminals that ask.
const OWNERS: &str = "SELECT asked.place,
        CASE WHEN intent.merchant_id = terminal.merchant_id THEN 1 ELSE 0 END AS is_theirs
    FROM unnest(?1::text[], ?2::text[]) WITH ORDINALITY AS asked (intent, terminal, place)
    JOIN payment_intents AS intent ON intent.id = asked.intent AND intent.handed_to IS NULL
    JOIN terminals AS terminal ON terminal.id = asked.terminal";
const PINS_WITH_NUMBERS: &str = "SELECT * FROM card_pins
    WHERE card_id = ANY (ARRAY(SELECT card_id FROM tokens WHERE number_hash = ANY (?1::bytea[])))";
const TOKENS: &str = "SELECT * FROM tokens WHERE id = ANY (?1::text[])";
const HISTORIES: &str = "SELECT * FROM token_histories WHERE token_id = ANY (?1::text[])";
const PERSON_KEYS: &str = "SELECT * FROM person_keys WHERE token_id = ANY (?1::text[])";
/// The newest counter of each token, found from the end of its counters.
const HIGHEST: &str = "SELECT wanted.id AS token_id, highest.number
    FROM unnest(?1::text[]) AS wanted (id) CROSS JOIN LATERAL (
        SELECT application_transaction_counter AS number FROM transaction_counters
        WHERE token_id = wanted.id AND verified = 1
        ORDER BY application_transaction_counter DESC LIMIT 1) AS highest";
const KEYS: &str = "SELECT key.* FROM unnest(?1::text[], ?2::bigint[], ?3::bytea[]) AS wanted (token, class, index)
    JOIN limited_use_keys AS key
        ON key.token_id = wanted.token AND key.key_class = wanted.class AND key.key_index = wanted.index";
/// Cards with what they can spend. A join would be planned by what is known of the table's size: on a young one the server
/// walks all cardholders' accounts for each card.
pub(super) const CARDS: &str = "SELECT cards.*, issuers.currency AS currency, coalesce((
        SELECT balance FROM accounts WHERE kind = 'cardholder'
            AND owner = cards.id AND currency = issuers.currency), 0) AS available
    FROM cards JOIN issuers ON issuers.id = cards.issuer_id
    WHERE cards.id = ANY (?1::text[])";
const CARD_PINS: &str = "SELECT * FROM card_pins WHERE card_id = ANY (?1::text[])";
const ISSUERS: &str = "SELECT * FROM issuers WHERE id = ANY (?1::text[])";
/// The newest of each issuer, and those that are named.
const POLICIES: &str = "SELECT policy.* FROM issuers
    JOIN issuer_policies AS policy ON policy.issuer_id = issuers.id AND policy.version = issuers.policy_version
    WHERE issuers.id = ANY (?1::text[])
    UNION ALL SELECT policy.* FROM unnest(?2::text[], ?3::bigint[]) AS wanted (issuer, version)
    JOIN issuer_policies AS policy ON policy.issuer_id = wanted.issuer AND policy.version = wanted.version";
const INTEGRITY_POLICIES: &str =
    "SELECT * FROM integrity_policies WHERE issuer_id = ANY (?1::text[])";
const VERDICTS: &str = "SELECT * FROM device_integrity WHERE device_id = ANY (?1::text[])";
const TERMINALS: &str = "SELECT * FROM terminals WHERE id = ANY (?1::text[])";
const MERCHANTS: &str = "SELECT * FROM merchants
    WHERE id = ANY (ARRAY(SELECT merchant_id FROM terminals WHERE id = ANY (?1::text[])))";
const INTENTS: &str =
    "SELECT * FROM payment_intents WHERE id = ANY (?1::text[]) AND handed_to IS NULL";

/// What is to be read, each once and in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) issuers: Vec<String>,
    pub(super) terminals: Vec<String>,
    pub(super) devices: Vec<String>,
    pub(super) cards: Vec<String>,
    pub(super) intents: Vec<String>,
    tokens: Vec<String>,
    counters: (Vec<String>, Vec<i64>),
    keys: (Vec<String>, Vec<i64>, Vec<Vec<u8>>),
    policies: (Vec<String>, Vec<i64>),
}

impl Wanted {
    /// What these payments are about: terminal, intent, what was presented, and whose token it is.
    pub(super) fn by<'a>(
        payments: impl Iterator<
            Item = (TerminalId, PaymentIntentId, &'a PresentedPayment, Option<&'a Token>),
        >,
    ) -> Self {
        let (mut of_terminals, mut of_intents) = (BTreeSet::new(), BTreeSet::new());
        let (mut of_tokens, mut counters) = (BTreeMap::new(), BTreeSet::new());
        let (mut keys, mut versions) = (BTreeSet::new(), BTreeSet::new());
        for (terminal, intent, presented, token) in payments {
            of_terminals.insert(terminal.to_string());
            of_intents.insert(intent.to_string());
            let Some(token) = token else { continue };
            let id = token.id.to_string();
            counters.insert((id.clone(), i64::from(presented.application_transaction_counter())));
            if let Some(data) = presented.input.application_data() {
                let class = i64::from(data.results.key_class.to_byte());
                keys.insert((id.clone(), (class, data.key_index.to_bytes().to_vec())));
                versions.insert((token.issuer.to_string(), i64::from(data.policy_version)));
            }
            of_tokens.insert(id, token);
        }
        let (keys_of, keys): (_, Vec<_>) = keys.into_iter().unzip();
        let (classes, indices) = keys.into_iter().unzip();
        let of = |id: fn(&Token) -> String| each_once(of_tokens.values().map(|token| id(token)));
        Self {
            issuers: of(|token| token.issuer.to_string()),
            terminals: each_once(of_terminals),
            devices: of(|token| token.device.to_string()),
            cards: of(|token| token.card.to_string()),
            intents: each_once(of_intents),
            tokens: of(|token| token.id.to_string()),
            counters: counters.into_iter().unzip(),
            keys: (keys_of, classes, indices),
            policies: versions.into_iter().unzip(),
        }
    }
}

fn each_once(ids: impl IntoIterator<Item = String>) -> Vec<String> {
    ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The tables, as far as a lot asks about them.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    numbers: HashMap<Vec<u8>, TokenId>,
    tokens: HashMap<TokenId, HotToken>,
    spent: HashMap<(TokenId, u16), SpentCounter>,
    keys: HashMap<(TokenId, KeyClass, KeyIndex), GrantedKey>,
    cards: HashMap<CardId, HotCard>,
    issuers: HashMap<IssuerId, HotIssuer>,
    policies: HashMap<(IssuerId, u32), IssuedPolicy>,
    verdicts: HashMap<DeviceId, Option<Verdict>>,
    terminals: HashMap<TerminalId, HotTerminal>,
    intents: HashMap<PaymentIntentId, PaymentIntent>,
}

impl Wanted {
    /// The statements that read it, in the order of [`Fetched::read`].
    pub(super) fn asked(&self) -> Vec<Asked<'_>> {
        let Self { issuers, terminals, devices, cards, intents, tokens, .. } = self;
        let (counters_of, counters) = &self.counters;
        let (keys_of, classes, indices) = &self.keys;
        let (policies_of, versions) = &self.policies;
        vec![
            (&SPENT, vec![counters_of, counters]),
            (TOKENS, vec![tokens]),
            (HISTORIES, vec![tokens]),
            (PERSON_KEYS, vec![tokens]),
            (HIGHEST, vec![tokens]),
            (KEYS, vec![keys_of, classes, indices]),
            (CARDS, vec![cards]),
            (CARD_PINS, vec![cards]),
            (ISSUERS, vec![issuers]),
            (POLICIES, vec![issuers, policies_of, versions]),
            (INTEGRITY_POLICIES, vec![issuers]),
            (VERDICTS, vec![devices]),
            (TERMINALS, vec![terminals]),
            (MERCHANTS, vec![terminals]),
            (INTENTS, vec![intents]),
        ]
    }
}

impl Fetched {
    /// What the facts of queries are made of. Two round trips: which tokens they are about is found first.
    ///
    /// # Errors
    /// A row makes no sense, or the database failed.
    pub(super) fn for_queries(session: &Session, queries: &[FactsQuery]) -> Result<Self> {
        let hashes = queries.iter().map(|query| query.token_number_hash.as_slice());
        let hashes: Vec<_> = hashes.collect();
        let rows = session.ask_all(&[(TOKENS_WITH_NUMBERS, vec![&hashes])])?;
        let numbered: HashMap<Vec<u8>, Token> = rows
            .iter()
            .flatten()
            .map(|row| Ok((Columns::new(row, "tokens").get("number_hash")?, tokens::read(row)?)))
            .collect::<Result<_>>()?;
        let wanted = Wanted::by(queries.iter().map(|query| {
            let token = numbered.get(&query.token_number_hash);
            (query.terminal, query.payment_intent, &*query.presented, token)
        }));
        let answers = session.ask_all(&wanted.asked())?;
        Self::read(&mut answers.into_iter())
    }

    /// Reads what the server answered to [`Wanted::asked`].
    ///
    /// # Errors
    /// A row makes no sense.
    pub(super) fn read(answers: &mut impl Iterator<Item = Vec<Row>>) -> Result<Self> {
        let mut next = || answers.next().unwrap_or_default();
        let spent = keyed(&next(), |row| {
            let columns = Columns::keyed(row, "transaction_counters", "token_id");
            Ok(((columns.parse("token_id")?, columns.number("number")?), lookup::read_spent(row)?))
        })?;
        let tokens = read_tokens(&mut next, &spent)?;
        let keys = keyed(&next(), |row| {
            let token = Columns::keyed(row, "limited_use_keys", "token_id").parse("token_id")?;
            let key = tokens::read_key(row)?;
            Ok(((token, key.class, key.index), key))
        })?;
        let cards = read_cards(&mut next)?;
        let (issuers, policies) = read_issuers(&mut next)?;
        let verdicts = by_id(&next(), "device_integrity", "device_id", integrity::read_verdict)?;
        let terminals = read_terminals(&mut next)?;
        let intents = by_id(&next(), "payment_intents", "id", intents::read)?;
        let number = |token: &HotToken| (token.number_hash.clone(), token.token.id);
        let numbers = tokens.values().map(number).collect();
        Ok(Self {
            numbers,
            tokens,
            spent,
            keys,
            cards,
            issuers,
            policies,
            verdicts,
            terminals,
            intents,
        })
    }
}

/// The presented tokens, in the order of the queries. A row that makes no sense is the matter of whoever presents it.
///
/// # Errors
/// The database failed.
pub(super) fn presented(
    session: &Session,
    queries: &[FactsQuery],
    with_pins: bool,
) -> Result<Vec<Result<Option<PresentedToken>>>> {
    let hashes = queries.iter().map(|query| query.token_number_hash.as_slice());
    let hashes: Vec<_> = hashes.collect();
    let (intents, terminals): (Vec<_>, Vec<_>) = queries
        .iter()
        .map(|query| (query.payment_intent.to_string(), query.terminal.to_string()))
        .unzip();
    let mut asked: Vec<Asked<'_>> =
        vec![(OWNERS, vec![&intents, &terminals]), (TOKENS_WITH_NUMBERS, vec![&hashes])];
    if with_pins {
        asked.push((PINS_WITH_NUMBERS, vec![&hashes]));
    }
    let mut answers = session.ask_all(&asked)?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let owners = owners(&next())?;
    let tokens: HashMap<Vec<u8>, _> = each_for_itself(&next(), |row| {
        let hash = Columns::new(row, "tokens").get("number_hash").ok()?;
        Some((hash, tokens::read(row).map(Arc::new)))
    });
    let pins: HashMap<CardId, _> = each_for_itself(&next(), |row| {
        let card = Columns::keyed(row, "card_pins", "card_id").parse("card_id").ok()?;
        Some((card, pins::read_card_pin(row)))
    });
    let found = queries.iter().enumerate().map(|(place, query)| {
        match owners.get(&place) {
            Some(true) => {}
            Some(false) => return Err(StorageError::OfAnotherMerchant),
            None => return found(None, "payment intent", query.payment_intent),
        }
        let token = tokens.get(&query.token_number_hash).cloned().transpose()?;
        let Some(token) = token else { return Ok(None) };
        let card_pin = pins.get(&token.card).cloned().transpose()?;
        Ok(Some(PresentedToken { token, card_pin }))
    });
    Ok(found.collect())
}

/// By place, from nought: whether the payment is the terminal's merchant's.
fn owners(rows: &[Row]) -> Result<HashMap<usize, bool>> {
    let read = |row: &Row| {
        let columns = Columns::keyed(row, "payment_intents", "place");
        let place: usize = columns.number("place")?;
        Ok((place.saturating_sub(1), columns.get("is_theirs")?))
    };
    rows.iter().map(read).collect()
}

/// Rows by what they are found by, each with what is wrong with it. One that cannot be found is nobody's.
fn each_for_itself<K: Eq + Hash, V>(
    rows: &[Row],
    read: impl Fn(&Row) -> Option<(K, Result<V>)>,
) -> HashMap<K, Result<V>> {
    rows.iter().filter_map(read).collect()
}

/// Rows by what they are found by.
fn keyed<K: Eq + Hash, V>(
    rows: &[Row],
    read: fn(&sql::Row<'_>) -> Result<(K, V)>,
) -> Result<HashMap<K, V>> {
    rows.iter().map(|row| read(row)).collect()
}

/// Rows by the id in a column.
fn by_id<K: FromStr + Eq + Hash, V>(
    rows: &[Row],
    table: &'static str,
    id: &'static str,
    read: Read<V>,
) -> Result<HashMap<K, V>> {
    rows.iter().map(|row| Ok((Columns::keyed(row, table, id).parse(id)?, read(row)?))).collect()
}

fn read_tokens(
    next: &mut impl FnMut() -> Vec<Row>,
    spent: &HashMap<(TokenId, u16), SpentCounter>,
) -> Result<HashMap<TokenId, HotToken>> {
    let rows = next();
    let histories: HashMap<TokenId, _> =
        by_id(&next(), "token_histories", "token_id", pins::read_history)?;
    let person_keys: HashMap<TokenId, _> =
        by_id(&next(), "person_keys", "token_id", pins::read_person_key)?;
    let highest: HashMap<TokenId, u16> =
        by_id(&next(), "transaction_counters", "token_id", |row| {
            Columns::keyed(row, "transaction_counters", "token_id").number("number")
        })?;
    let mut counters: HashMap<TokenId, BTreeMap<u16, SpentCounter>> = HashMap::new();
    for ((token, counter), by) in spent {
        counters.entry(*token).or_default().insert(*counter, *by);
    }
    let tokens = rows.iter().map(|row| {
        let columns = Columns::new(row, "tokens");
        let token = tokens::read(row)?;
        let id = token.id;
        let (history, logged_in_at) = histories.get(&id).copied().unwrap_or_default();
        let enrolled_at = columns.time_optional("first_granted_at")?.unwrap_or(token.created_at);
        let hot = HotToken {
            number_hash: columns.get("number_hash")?,
            history,
            logged_in_at: logged_in_at.unwrap_or(enrolled_at),
            person_key: person_keys.get(&id).map(|key| key.state),
            highest_counter: highest.get(&id).copied(),
            counters: SpentCounters::only(counters.remove(&id).unwrap_or_default()),
            keys: HashMap::new(),
            token: Arc::new(token),
        };
        Ok((id, hot))
    });
    tokens.collect()
}

fn read_cards(next: &mut impl FnMut() -> Vec<Row>) -> Result<HashMap<CardId, HotCard>> {
    let accounts: HashMap<CardId, _> = by_id(&next(), "cards", "id", |row| {
        Ok((cards::read_card(row)?, Columns::new(row, "cards").money("available")?))
    })?;
    let pins: HashMap<CardId, _> = by_id(&next(), "card_pins", "card_id", pins::read_card_pin)?;
    let cards = accounts.into_iter().map(|(id, (card, available))| {
        (id, HotCard { card: Arc::new(card), available, pin: pins.get(&id).copied() })
    });
    Ok(cards.collect())
}

type Policies = HashMap<(IssuerId, u32), IssuedPolicy>;

fn read_issuers(
    next: &mut impl FnMut() -> Vec<Row>,
) -> Result<(HashMap<IssuerId, HotIssuer>, Policies)> {
    let issuers: HashMap<IssuerId, Issuer> = by_id(&next(), "issuers", "id", issuers::read)?;
    let policies: Policies = keyed(&next(), |row| {
        let columns = Columns::keyed(row, "issuer_policies", "issuer_id");
        Ok(((columns.parse("issuer_id")?, columns.number("version")?), policies::read(row)?))
    })?;
    let mut integrity: HashMap<IssuerId, _> =
        by_id(&next(), "integrity_policies", "issuer_id", integrity::read_policy)?;
    let issuers = issuers.into_iter().map(|(id, issuer)| {
        let version = issuer.policy_version;
        let current = found(policies.get(&(id, version)), "policy version", version)?;
        let hot = HotIssuer {
            issuer: Arc::new(issuer),
            current: Arc::new(current.clone()),
            policies: HashMap::new(),
            integrity_policy: integrity.remove(&id).map(Arc::new),
        };
        Ok((id, hot))
    });
    Ok((issuers.collect::<Result<_>>()?, policies))
}

fn read_terminals(next: &mut impl FnMut() -> Vec<Row>) -> Result<HashMap<TerminalId, HotTerminal>> {
    let terminals: HashMap<TerminalId, Terminal> =
        by_id(&next(), "terminals", "id", terminals::read)?;
    let merchants: HashMap<MerchantId, Merchant> =
        by_id(&next(), "merchants", "id", merchants::read)?;
    let merchants: HashMap<_, _> =
        merchants.into_iter().map(|(id, merchant)| (id, Arc::new(merchant))).collect();
    let terminals = terminals.into_iter().map(|(id, terminal)| {
        let merchant = found(merchants.get(&terminal.merchant), "merchant", terminal.merchant)?;
        let merchant = Arc::clone(merchant);
        Ok((id, HotTerminal { terminal: Arc::new(terminal), merchant }))
    });
    terminals.collect()
}

impl Tables for Fetched {
    type Error = StorageError;

    fn token_with_number(&self, hash: &[u8]) -> Result<Option<TokenId>> {
        Ok(self.numbers.get(hash).copied())
    }

    fn token(&self, id: TokenId) -> Result<Option<HotToken>> {
        Ok(self.tokens.get(&id).cloned())
    }

    fn key(&self, token: TokenId, class: KeyClass, index: KeyIndex) -> Result<Option<GrantedKey>> {
        Ok(self.keys.get(&(token, class, index)).copied())
    }

    fn spent(&self, token: TokenId, counter: u16) -> Result<Option<SpentCounter>> {
        Ok(self.spent.get(&(token, counter)).copied())
    }

    fn card(&self, id: CardId) -> Result<Option<HotCard>> {
        Ok(self.cards.get(&id).cloned())
    }

    fn issuer(&self, id: IssuerId) -> Result<Option<HotIssuer>> {
        Ok(self.issuers.get(&id).cloned())
    }

    fn policy(&self, issuer: IssuerId, version: u32) -> Result<Option<IssuedPolicy>> {
        Ok(self.policies.get(&(issuer, version)).cloned())
    }

    fn verdict(&self, device: DeviceId) -> Result<Option<Verdict>> {
        Ok(self.verdicts.get(&device).copied().flatten())
    }

    fn terminal(&self, id: TerminalId) -> Result<HotTerminal> {
        found(self.terminals.get(&id).cloned(), "terminal", id)
    }

    fn intent(&self, id: PaymentIntentId) -> Result<PaymentIntent> {
        found(self.intents.get(&id).cloned(), "payment intent", id)
    }
}
