//! What decisions look at, in memory: tokens with their counters, keys and limits, cards with their balances, issuers
//! with their policies, terminals, intents.
//!
//! It is the tables and what the journal has in front of them. One thread changes it, the one that writes the journal;
//! everybody else looks. What is not here is looked up in the tables, which know as much: nothing is let go while the
//! journal is in front of the tables. It may show what is not on the disk yet, so nothing that is told to anybody rests
//! on it alone: a decision is compared with it once more when it is written down.

mod aggregates;
mod compared;
mod generations;

use std::sync::Arc;

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::merchant::AcquirerId;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{
    CardId, DeviceId, IssuerId, MerchantId, Money, PaymentIntentId, TerminalId, Timestamp, TokenId,
};
use tapfer_payments::audit::Caller;
use tapfer_payments::authorization::{
    Authorization, Facts, PresentedPayment, SpentCounter, TerminalFacts, TokenFacts,
};
use tapfer_payments::integrity::Verdict;
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::ledger::Account;
use tapfer_payments::policies::IssuedPolicy;

use crate::decided::Decided;
use crate::idempotency::GivenAnswer;
use crate::{CommitAuthorization, FactsQuery, Inconsistency, PresentedToken, StorageError};

pub(crate) use self::aggregates::{
    COUNTERS, HotCard, HotIssuer, HotTerminal, HotToken, SpentCounters,
};
pub(crate) use self::generations::Generations;

/// Where is looked up what is not in memory.
pub(crate) trait Tables {
    /// Why it cannot be told.
    type Error: From<StorageError>;
    /// Which token has a number with this keyed hash.
    fn token_with_number(&self, hash: &[u8]) -> Result<Option<TokenId>, Self::Error>;
    /// A token, without its keys.
    fn token(&self, id: TokenId) -> Result<Option<HotToken>, Self::Error>;
    /// A key that a token was given.
    fn key(
        &self,
        token: TokenId,
        class: KeyClass,
        index: KeyIndex,
    ) -> Result<Option<GrantedKey>, Self::Error>;
    /// What spent a counter long ago.
    fn spent(&self, token: TokenId, counter: u16) -> Result<Option<SpentCounter>, Self::Error>;
    /// A card.
    fn card(&self, id: CardId) -> Result<Option<HotCard>, Self::Error>;
    /// An issuer, with the newest version of its policy.
    fn issuer(&self, id: IssuerId) -> Result<Option<HotIssuer>, Self::Error>;
    /// One version of an issuer's policy.
    fn policy(&self, issuer: IssuerId, version: u32) -> Result<Option<IssuedPolicy>, Self::Error>;
    /// What was found out about a phone last.
    fn verdict(&self, device: DeviceId) -> Result<Option<Verdict>, Self::Error>;
    /// A terminal.
    ///
    /// # Errors
    /// Also if there is none.
    fn terminal(&self, id: TerminalId) -> Result<HotTerminal, Self::Error>;
    /// An intent.
    ///
    /// # Errors
    /// Also if there is none.
    fn intent(&self, id: PaymentIntentId) -> Result<PaymentIntent, Self::Error>;
}

/// No tables: who asks wants what is in memory, or nothing.
pub(crate) struct MemoryOnly;

/// It is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotInMemory;

/// Something that a change of the tables has touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touched {
    /// A token, or anything that was used of it.
    Token(TokenId),
    /// A card, its balance or its PIN.
    Card(CardId),
    /// An issuer, or what it asks of payments.
    Issuer(IssuerId),
    /// What is known of a phone.
    Device(DeviceId),
    /// A terminal.
    Terminal(TerminalId),
    /// A merchant.
    Merchant(MerchantId),
    /// An intent.
    Intent(PaymentIntentId),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hot {
    numbers: Generations<Vec<u8>, TokenId>,
    tokens: Generations<TokenId, HotToken>,
    cards: Generations<CardId, HotCard>,
    issuers: Generations<IssuerId, HotIssuer>,
    verdicts: Generations<DeviceId, Option<Verdict>>,
    terminals: Generations<TerminalId, HotTerminal>,
    intents: Generations<PaymentIntentId, Arc<PaymentIntent>>,
}

impl Hot {
    /// Nothing yet; later so many things of each kind, those that were used last, or twice as many.
    pub(crate) fn new(of_each: usize) -> Self {
        Self {
            numbers: Generations::new(of_each),
            tokens: Generations::new(of_each),
            cards: Generations::new(of_each),
            issuers: Generations::new(of_each),
            verdicts: Generations::new(of_each),
            terminals: Generations::new(of_each),
            intents: Generations::new(of_each),
        }
    }

    /// The facts of a decision.
    ///
    /// # Errors
    /// There is no such intent or terminal, or the tables cannot be read.
    pub(crate) fn facts<T: Tables>(
        &self,
        tables: &T,
        query: &FactsQuery,
    ) -> Result<Facts, T::Error> {
        let token = match self.numbers.get(query.token_number_hash.as_slice()) {
            Some(id) => Some(*id),
            None => tables.token_with_number(&query.token_number_hash)?,
        };
        let terminal = (query.terminal, query.acquirer);
        self.facts_about(tables, token, query.payment_intent, terminal, &query.presented)
    }

    /// The presented token, and the PIN of its card.
    ///
    /// # Errors
    /// There is no such intent, it is another merchant's than the terminal, or the tables cannot be read.
    pub(crate) fn presented<T: Tables>(
        &self,
        tables: &T,
        query: &FactsQuery,
    ) -> Result<Option<PresentedToken>, T::Error> {
        let paid = match self.intents.get(&query.payment_intent) {
            Some(intent) => intent.merchant,
            None => tables.intent(query.payment_intent)?.merchant,
        };
        let asks = match self.terminals.get(&query.terminal) {
            Some(known) => known.merchant.id,
            None => tables.terminal(query.terminal)?.merchant.id,
        };
        if paid != asks {
            return Err(StorageError::OfAnotherMerchant.into());
        }
        let id = match self.numbers.get(query.token_number_hash.as_slice()) {
            Some(id) => Some(*id),
            None => tables.token_with_number(&query.token_number_hash)?,
        };
        let Some(id) = id else { return Ok(None) };
        let token = match self.tokens.get(&id) {
            Some(known) => Some(Arc::clone(&known.token)),
            None => tables.token(id)?.map(|found| found.token),
        };
        let Some(token) = token else { return Ok(None) };
        let card_pin = match self.cards.get(&token.card) {
            Some(card) => card.pin,
            None => tables.card(token.card)?.and_then(|found| found.pin),
        };
        Ok(Some(PresentedToken { token, card_pin }))
    }

    /// Whether these facts still hold: all of them, compared whole, so that no fact can be forgotten here.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if one has changed.
    pub(crate) fn check<T: Tables<Error = StorageError>>(
        &self,
        tables: &T,
        facts: &Facts,
    ) -> Result<(), StorageError> {
        let token = facts.token.as_ref().map(|facts| facts.token.id);
        let terminal = (facts.terminal.id(), facts.terminal.acquirer);
        let now = self.facts_about(tables, token, facts.intent.id, terminal, &facts.presented)?;
        if now == *facts || is_skipped(Control::RecheckAtCommit) {
            Ok(())
        } else {
            Err(StorageError::Conflict)
        }
    }

    fn facts_about<T: Tables>(
        &self,
        tables: &T,
        token: Option<TokenId>,
        intent: PaymentIntentId,
        (terminal, acquirer): (TerminalId, AcquirerId),
        presented: &Arc<PresentedPayment>,
    ) -> Result<Facts, T::Error> {
        let token = token.map(|token| self.token_facts(tables, token, presented)).transpose()?;
        let intent = match self.intents.get(&intent) {
            Some(intent) => Arc::clone(intent),
            None => Arc::new(tables.intent(intent)?),
        };
        let HotTerminal { terminal, merchant } = match self.terminals.get(&terminal) {
            Some(known) => known.clone(),
            None => tables.terminal(terminal)?,
        };
        let terminal = TerminalFacts { terminal, merchant, acquirer };
        Ok(Facts { presented: Arc::clone(presented), terminal, intent, token: token.flatten() })
    }

    fn token_facts<T: Tables>(
        &self,
        tables: &T,
        id: TokenId,
        presented: &PresentedPayment,
    ) -> Result<Option<TokenFacts>, T::Error> {
        let loaded;
        let known = match self.tokens.get(&id) {
            Some(known) => known,
            None => match tables.token(id)? {
                Some(found) => {
                    loaded = found;
                    &loaded
                }
                None => return Ok(None),
            },
        };
        let token = &known.token;
        let lost = |column| Inconsistency { table: "tokens", id: id.to_string(), column };
        let card = match self.cards.get(&token.card) {
            Some(card) => card.clone(),
            None => tables.card(token.card)?.ok_or_else(|| lost("card_id").into())?,
        };
        let issuer = match self.issuers.get(&token.issuer) {
            Some(issuer) => issuer.clone(),
            None => tables.issuer(token.issuer)?.ok_or_else(|| lost("issuer_id").into())?,
        };
        let integrity_verdict = match self.verdicts.get(&token.device) {
            Some(verdict) => *verdict,
            None => tables.verdict(token.device)?,
        };
        let counter = presented.application_transaction_counter();
        let counter_spent = match known.counters.get(counter) {
            Ok(spent) => spent,
            Err(aggregates::OnlyInTables) => tables.spent(id, counter)?,
        };
        let (key, policy) = self.named_by(tables, known, &issuer, presented)?;
        Ok(Some(TokenFacts {
            token: Arc::clone(token),
            card: card.card,
            issuer: issuer.issuer,
            counter_spent,
            highest_counter: known.highest_counter,
            key,
            policy,
            pin_rules: issuer.current.policy.pin,
            history: known.history,
            logged_in_at: known.logged_in_at,
            person_key: known.person_key,
            card_pin: card.pin,
            available: card.available,
            integrity_policy: issuer.integrity_policy,
            integrity_verdict,
        }))
    }

    /// The key and the policy that the application data names.
    #[expect(clippy::type_complexity, reason = "two things that are looked up together")]
    fn named_by<T: Tables>(
        &self,
        tables: &T,
        token: &HotToken,
        issuer: &HotIssuer,
        presented: &PresentedPayment,
    ) -> Result<(Option<GrantedKey>, Option<Arc<IssuedPolicy>>), T::Error> {
        let Some(data) = presented.input.application_data() else { return Ok((None, None)) };
        let (class, index) = (data.results.key_class, data.key_index);
        let key = match token.keys.get(&(class, index)) {
            Some(key) => Some(*key),
            None => tables.key(token.token.id, class, index)?,
        };
        let version = data.policy_version;
        let policy = match issuer.policies.get(&version) {
            Some(policy) => Some(Arc::clone(policy)),
            None if issuer.current.policy.version == version => Some(Arc::clone(&issuer.current)),
            None => tables.policy(issuer.issuer.id, version)?.map(Arc::new),
        };
        Ok((key, policy))
    }

    /// Takes into memory whatever these facts are made of.
    ///
    /// # Errors
    /// The tables cannot be read.
    fn keep<T: Tables>(&mut self, tables: &T, facts: &Facts) -> Result<(), T::Error> {
        let terminal = facts.terminal.id();
        if self.terminals.get_mut(&terminal).is_none() {
            self.terminals.insert(terminal, tables.terminal(terminal)?);
        }
        if self.intents.get_mut(&facts.intent.id).is_none() {
            let intent = Arc::new(tables.intent(facts.intent.id)?);
            self.intents.insert(intent.id, intent);
        }
        facts.token.as_ref().map_or(Ok(()), |token| {
            self.keep_token(tables, token)?;
            self.keep_named(tables, token, &facts.presented)
        })
    }

    fn keep_token<T: Tables>(&mut self, tables: &T, facts: &TokenFacts) -> Result<(), T::Error> {
        let (id, card) = (facts.token.id, facts.token.card);
        let (issuer, device) = (facts.token.issuer, facts.token.device);
        if self.tokens.get_mut(&id).is_none()
            && let Some(token) = tables.token(id)?
        {
            self.numbers.insert(token.number_hash.clone(), id);
            self.tokens.insert(id, token);
        }
        if self.cards.get_mut(&card).is_none()
            && let Some(found) = tables.card(card)?
        {
            self.cards.insert(card, found);
        }
        if self.issuers.get_mut(&issuer).is_none()
            && let Some(found) = tables.issuer(issuer)?
        {
            self.issuers.insert(issuer, found);
        }
        if self.verdicts.get_mut(&device).is_none() {
            self.verdicts.insert(device, tables.verdict(device)?);
        }
        Ok(())
    }

    fn keep_named<T: Tables>(
        &mut self,
        tables: &T,
        facts: &TokenFacts,
        presented: &PresentedPayment,
    ) -> Result<(), T::Error> {
        let Some(data) = presented.input.application_data() else { return Ok(()) };
        let (id, of) = (facts.token.id, (data.results.key_class, data.key_index));
        if let Some(token) = self.tokens.get_mut(&id)
            && !token.keys.contains_key(&of)
            && let Some(key) = tables.key(id, of.0, of.1)?
        {
            token.keys.insert(of, key);
        }
        let version = data.policy_version;
        if let Some(issuer) = self.issuers.get_mut(&facts.token.issuer)
            && !issuer.policies.contains_key(&version)
            && let Some(policy) = tables.policy(facts.token.issuer, version)?
        {
            issuer.policies.insert(version, Arc::new(policy));
        }
        Ok(())
    }

    /// Takes one decision in, if what it rests on still holds, perhaps behind others that were taken in before.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if something has changed, or the tables cannot be read.
    pub(crate) fn decide<T: Tables<Error = StorageError>>(
        &mut self,
        tables: &T,
        commit: &CommitAuthorization,
        authorization: Authorization,
        caller: Caller,
        answer: Option<GivenAnswer>,
    ) -> Result<Decided, StorageError> {
        self.keep(tables, &commit.facts)?;
        self.check(tables, &commit.facts)?;
        self.take_in(commit, authorization, caller, answer)
    }

    /// Takes one decision in that was made on what is known here and in the tables at this moment.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(crate) fn take<T: Tables<Error = StorageError>>(
        &mut self,
        tables: &T,
        commit: &CommitAuthorization,
        authorization: Authorization,
        caller: Caller,
        answer: Option<GivenAnswer>,
    ) -> Result<Decided, StorageError> {
        self.keep(tables, &commit.facts)?;
        self.take_in(commit, authorization, caller, answer)
    }

    fn take_in(
        &mut self,
        commit: &CommitAuthorization,
        authorization: Authorization,
        caller: Caller,
        answer: Option<GivenAnswer>,
    ) -> Result<Decided, StorageError> {
        let decided = Decided { answer, ..Decided::new(commit, authorization, caller)? };
        let available = self.available_behind(&decided)?;
        self.follow(&decided, available);
        Ok(decided)
    }

    /// What a card can spend behind this payment.
    ///
    /// # Errors
    /// [`StorageError::Refused`] if it does not hold that much: a defect, since the decision rests on the same
    /// balance.
    fn available_behind(&self, decided: &Decided) -> Result<Option<Money>, StorageError> {
        let (Some(held), Some(id)) = (decided.held(), decided.authorization.card) else {
            return Ok(None);
        };
        let Some(card) = self.cards.get(&id) else { return Err(StorageError::Conflict) };
        let taken = held.minor.checked_neg().unwrap_or(i64::MIN);
        let after = Account::Cardholder(id).balance_after(card.available.minor, taken)?;
        Ok(Some(Money::new(after, card.available.currency)))
    }

    /// Follows a payment that is being written down. Whatever it is about is in memory ([`Hot::keep`]).
    fn follow(&mut self, decided: &Decided, available: Option<Money>) {
        let authorization = &decided.authorization;
        if let Some(token) = authorization.token.and_then(|id| self.tokens.get_mut(&id)) {
            token.follow(decided);
        }
        if let Some(card) = authorization.card.and_then(|id| self.cards.get_mut(&id)) {
            card.available = available.unwrap_or(card.available);
            card.pin = decided.card_pin.or(card.pin);
        }
        if let Some(intent) = &decided.intent {
            self.put_intent(intent.clone());
        }
    }

    /// Takes in what a payment was decided on, and what it changed, where no tables will be asked: of the token those keys that are
    /// known, and no counter up to `spent`; of PINs nothing, since their tries are counted in the tables.
    ///
    /// # Errors
    /// The card does not hold what was paid: the facts are no facts.
    pub(crate) fn remember(
        &mut self,
        number_hash: Vec<u8>,
        facts: &Facts,
        granted: &[GrantedKey],
        spent: Option<u16>,
        decided: &Decided,
    ) -> Result<(), StorageError> {
        let Some(known) = &facts.token else { return Ok(()) };
        let (id, card, issuer) = (known.token.id, known.card.id, known.issuer.id);
        let named = |key: &GrantedKey| ((key.class, key.index), *key);
        let mut keys = match self.tokens.get(&id) {
            Some(before) => before.keys.clone(),
            None => granted.iter().map(named).collect(),
        };
        keys.extend(known.key.as_ref().map(named));
        let token = HotToken {
            token: Arc::clone(&known.token),
            number_hash: number_hash.clone(),
            history: known.history,
            logged_in_at: known.logged_in_at,
            person_key: None,
            highest_counter: known.highest_counter.max(spent),
            counters: SpentCounters::above(known.highest_counter.max(spent)),
            keys,
        };
        self.numbers.insert(number_hash, id);
        self.tokens.insert(id, token);
        let (held, available) = (Arc::clone(&known.card), known.available);
        self.cards.insert(card, HotCard { card: held, available, pin: None });
        if let Some(named) = &known.policy {
            let mut policies =
                self.issuers.get(&issuer).map(|before| before.policies.clone()).unwrap_or_default();
            policies.insert(named.policy.version, Arc::clone(named));
            let (of, integrity_policy) =
                (Arc::clone(&known.issuer), known.integrity_policy.clone());
            let current = Arc::clone(named);
            self.issuers
                .insert(issuer, HotIssuer { issuer: of, current, policies, integrity_policy });
        }
        self.verdicts.insert(known.token.device, known.integrity_verdict);
        let TerminalFacts { terminal, merchant, .. } = facts.terminal.clone();
        self.terminals.insert(terminal.id, HotTerminal { terminal, merchant });
        let available = self.available_behind(decided)?;
        self.follow(
            &Decided { intent: None, card_pin: None, person_key: None, ..decided.clone() },
            available,
        );
        Ok(())
    }

    /// A token was given these keys in the place of those before.
    pub(crate) fn regrant(&mut self, token: TokenId, keys: &[GrantedKey]) {
        if let Some(token) = self.tokens.get_mut(&token) {
            token.keys = keys.iter().map(|key| ((key.class, key.index), *key)).collect();
        }
    }

    /// Whether a key of a token is here.
    pub(crate) fn knows_key(&self, token: TokenId, key: &GrantedKey) -> bool {
        self.tokens
            .get(&token)
            .is_some_and(|token| token.keys.contains_key(&(key.class, key.index)))
    }

    /// A key of a token that is here; what is known of one stays.
    pub(crate) fn add_key(&mut self, token: TokenId, key: GrantedKey) {
        if let Some(token) = self.tokens.get_mut(&token) {
            token.keys.entry((key.class, key.index)).or_insert(key);
        }
    }

    /// No counter of a token up to this one is looked at any more.
    pub(crate) fn spend_up_to(&mut self, token: TokenId, counter: u16) {
        if let Some(token) = self.tokens.get_mut(&token) {
            token.highest_counter = token.highest_counter.max(Some(counter));
            token.counters = SpentCounters::above(token.highest_counter);
        }
    }

    /// Which token has a number with this keyed hash, as far as is known here.
    pub(crate) fn token_of(&self, number_hash: &[u8]) -> Option<TokenId> {
        self.numbers.get(number_hash).copied()
    }

    /// An intent that is here.
    pub(crate) fn intent(&self, id: PaymentIntentId) -> Option<&Arc<PaymentIntent>> {
        self.intents.get(&id)
    }

    /// A terminal that is here.
    pub(crate) fn terminal(&self, id: TerminalId) -> Option<&HotTerminal> {
        self.terminals.get(&id)
    }

    /// Lets what the tables know of a token's past go.
    pub(crate) fn trim(&mut self, token: TokenId, now: Timestamp) {
        if let Some(token) = self.tokens.get_mut(&token) {
            token.trim(now);
        }
    }

    /// An intent as it stands in the tables now.
    pub(crate) fn put_intent(&mut self, intent: PaymentIntent) {
        self.intents.insert(intent.id, Arc::new(intent));
    }

    /// Looks it up in the tables from here on.
    pub(crate) fn forget(&mut self, touched: Touched) {
        match touched {
            Touched::Token(id) => {
                // Its number may be another token's one day, when it is erased.
                if let Some(token) = self.tokens.get(&id) {
                    self.numbers.remove(&token.number_hash);
                }
                self.tokens.remove(&id);
            }
            Touched::Card(id) => self.cards.remove(&id),
            Touched::Issuer(id) => self.issuers.remove(&id),
            Touched::Device(id) => self.verdicts.remove(&id),
            Touched::Terminal(id) => self.terminals.remove(&id),
            // Seldom, and of the many terminals that it may have nobody has a list.
            Touched::Merchant(_) => self.terminals.clear(),
            Touched::Intent(id) => self.intents.remove(&id),
        }
    }

    /// The ids of what is in memory, by the table that it stands in; none of a table that is not.
    pub(crate) fn ids(&self, table: &str) -> Vec<String> {
        match table {
            "tokens" => self.tokens.iter().map(|(id, _)| id.to_string()).collect(),
            "cards" => self.cards.iter().map(|(id, _)| id.to_string()).collect(),
            "terminals" => self.terminals.iter().map(|(id, _)| id.to_string()).collect(),
            "devices" => self.verdicts.iter().map(|(id, _)| id.to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// Looks what issuers ask of payments up again.
    pub(crate) fn forget_issuers(&mut self) {
        self.issuers.clear();
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.numbers.clear();
        self.tokens.clear();
        self.cards.clear();
        self.issuers.clear();
        self.verdicts.clear();
        self.terminals.clear();
        self.intents.clear();
    }

    /// Whether something is due to be forgotten.
    pub(crate) fn is_full(&self) -> bool {
        self.numbers.is_full()
            || self.tokens.is_full()
            || self.cards.is_full()
            || self.issuers.is_full()
            || self.verdicts.is_full()
            || self.terminals.is_full()
            || self.intents.is_full()
    }

    /// Forgets what was not used for long. The tables must know all that the journal does.
    pub(crate) fn let_go(&mut self) {
        fn of<K: Eq + std::hash::Hash, V>(kept: &mut Generations<K, V>) {
            if kept.is_full() {
                kept.grow_old();
            }
        }
        of(&mut self.numbers);
        of(&mut self.tokens);
        of(&mut self.cards);
        of(&mut self.issuers);
        of(&mut self.verdicts);
        of(&mut self.terminals);
        of(&mut self.intents);
    }
}

impl HotToken {
    fn follow(&mut self, decided: &Decided) {
        let counter = decided.authorization.application_transaction_counter;
        if let Some(spent) = decided.spent {
            self.counters.spend(counter, spent);
            if spent.verified {
                self.highest_counter = self.highest_counter.max(Some(counter));
            }
        }
        if let Some(key) = decided.used_key {
            self.keys.insert((key.class, key.index), key);
        }
        self.person_key = decided.person_key.or(self.person_key);
        self.history = decided.history.unwrap_or(self.history);
        if let Some(state) = decided.suspended {
            Arc::make_mut(&mut self.token).state = state;
        }
    }
}

impl From<StorageError> for NotInMemory {
    fn from(_: StorageError) -> Self {
        Self
    }
}

type OrNot<T> = Result<T, NotInMemory>;

impl Tables for MemoryOnly {
    type Error = NotInMemory;

    fn token_with_number(&self, _: &[u8]) -> OrNot<Option<TokenId>> {
        Err(NotInMemory)
    }
    fn token(&self, _: TokenId) -> OrNot<Option<HotToken>> {
        Err(NotInMemory)
    }
    fn key(&self, _: TokenId, _: KeyClass, _: KeyIndex) -> OrNot<Option<GrantedKey>> {
        Err(NotInMemory)
    }
    fn spent(&self, _: TokenId, _: u16) -> OrNot<Option<SpentCounter>> {
        Err(NotInMemory)
    }
    fn card(&self, _: CardId) -> OrNot<Option<HotCard>> {
        Err(NotInMemory)
    }
    fn issuer(&self, _: IssuerId) -> OrNot<Option<HotIssuer>> {
        Err(NotInMemory)
    }
    fn policy(&self, _: IssuerId, _: u32) -> OrNot<Option<IssuedPolicy>> {
        Err(NotInMemory)
    }
    fn verdict(&self, _: DeviceId) -> OrNot<Option<Verdict>> {
        Err(NotInMemory)
    }
    fn terminal(&self, _: TerminalId) -> OrNot<HotTerminal> {
        Err(NotInMemory)
    }
    fn intent(&self, _: PaymentIntentId) -> OrNot<PaymentIntent> {
        Err(NotInMemory)
    }
}
