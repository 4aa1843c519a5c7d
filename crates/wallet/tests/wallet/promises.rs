//! What holds after every answer of a card, whatever it was sent: checked from outside, by what a reader
//! sees, what the disk holds and what the phone had before.

use std::collections::HashSet;

use tapfer_emv::channel::{derivation_key, session_keys};
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod};
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::merchant::MerchantIdentity;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_wallet::store::StoreHeader;

use crate::issuer::Issuer;
use crate::phone::Phone;

/// One in so many answers is compared with the whole store, and the others with its number: opening it takes
/// longer than the tap.
const WHOLE_STORE_ONE_IN: u64 = 16;

/// What is known of one token from outside.
#[derive(Clone, Copy, Default)]
pub struct Account {
    /// Its counter before the command.
    counter: u16,
    /// The highest counter that a reader has seen, and the last with which the card asked for approval.
    seen: u16,
    approved: u16,
    /// How many cryptograms the keys that it was given last are good for.
    pub budget: u32,
    /// A PIN was entered, and has not paid yet.
    pub pin_is_entered: bool,
}

/// What readers have seen, and what they must never see.
#[derive(Default)]
pub struct Promises {
    pub accounts: [Account; 2],
    /// Whose dialogue it is: the token whose counter rose last.
    active: usize,
    /// The first sixteen bytes of every key: of the phone, and of the channel.
    secrets: HashSet<[u8; 16]>,
    session: HashSet<[u8; 16]>,
    answers: u64,
}

impl Promises {
    /// Before a command: where the counters stand.
    pub fn note_counters(&mut self, phone: &Phone) {
        let counters = counters(phone);
        self.accounts.iter_mut().zip(counters).for_each(|(account, now)| account.counter = now);
    }

    /// What holds for every answer; `proven` is the terminal in the field, if it is one that proves.
    pub fn check(
        &mut self,
        phone: &Phone,
        kernel_key: &PrivateKey,
        proven: Option<MerchantIdentity>,
        answer: &[u8],
    ) {
        self.answers += 1;
        let (data, status) = answer.split_at(answer.len() - 2);
        self.check_secrets(data);
        self.check_counters(phone);
        if status != [0x90, 0x00] {
            assert!(data.is_empty(), "a refusal with data");
            return;
        }
        let field = |tag: Tag| {
            let found = tlv::find_path(data, &[tags::RESPONSE_TEMPLATE_FORMAT_2, tag]);
            found.ok().flatten()
        };
        if let Some(key_data) = field(tags::CARD_KEY_DATA) {
            self.check_begun(phone);
            self.learn_session(kernel_key, key_data);
            self.check_secrets(data);
        }
        let Some(counter) = field(tags::APPLICATION_TRANSACTION_COUNTER) else { return };
        let counter = u16::from_be_bytes(counter.try_into().unwrap());
        let is_request = field(tags::CRYPTOGRAM_INFORMATION_DATA) == Some(&[0x80]);
        let data = field(tags::ISSUER_APPLICATION_DATA).unwrap();
        let data = IssuerApplicationData::parse(data).unwrap();
        self.check_cryptogram(phone, counter, is_request, &data);
        assert!(
            data.merchant_identity.is_none() || data.merchant_identity == proven,
            "no such proof"
        );
    }

    /// One counter rises by one, or none does.
    fn check_counters(&mut self, phone: &Phone) {
        let mut risen = 0;
        for (number, now) in counters(phone).into_iter().enumerate() {
            let before = self.accounts[number].counter;
            assert!(now == before || now == before + 1, "counter {now} after {before}");
            if now > before {
                (self.active, risen) = (number, risen + 1);
            }
        }
        assert!(risen <= 1, "one tap took the counters of two tokens");
    }

    /// GET PROCESSING OPTIONS was answered: with a counter that nobody has seen, which is on the disk.
    fn check_begun(&mut self, phone: &Phone) {
        let counter = counters(phone)[self.active];
        let account = &mut self.accounts[self.active];
        assert!(counter > account.seen, "counter {counter} after {}", account.seen);
        assert_eq!(counter, account.counter + 1, "answered without a counter of its own");
        account.seen = counter;
        self.check_durable(phone);
    }

    fn check_cryptogram(
        &mut self,
        phone: &Phone,
        counter: u16,
        is_request: bool,
        data: &IssuerApplicationData,
    ) {
        let account = &mut self.accounts[self.active];
        assert_eq!(counter, account.seen, "a cryptogram under a counter of another transaction");
        assert_eq!(is_request, !data.results.declined, "what is signed is what is said");
        account.budget = account.budget.checked_sub(1).expect("more cryptograms than keys");
        if data.results.key_class == KeyClass::Verified {
            assert!(account.pin_is_entered, "a key under the PIN, and nobody has entered it");
        }
        let unlocked = phone.device.is_unlocked();
        assert_eq!(data.results.unlocked, unlocked, "the issuer is told of another lock");
        if data.results.method == VerificationMethod::DeviceUnlock {
            assert!(unlocked, "verified by the lock of a phone that is locked");
        }
        if is_request {
            assert!(counter > account.approved, "a second approval under counter {counter}");
            (account.approved, account.pin_is_entered) = (counter, false);
        }
        self.check_durable(phone);
    }

    /// The answer depends on a snapshot, and the disk has it: its number always, all of it now and then.
    fn check_durable(&self, phone: &Phone) {
        let header = StoreHeader::read(&phone.disk).unwrap();
        assert_eq!(header.generation, phone.card.wallet().generation(), "not durable");
        if self.answers.is_multiple_of(WHOLE_STORE_ONE_IN) {
            let stored = serde_json::to_value(phone.stored()).unwrap();
            assert_eq!(stored, serde_json::to_value(phone.card.wallet()).unwrap(), "not durable");
        }
    }

    /// After a restart: nothing that left the phone is ahead of it.
    pub fn check_restarted(&mut self, phone: &Phone) {
        for (account, counter) in self.accounts.iter_mut().zip(counters(phone)) {
            assert!(counter >= account.seen, "the counter went back");
            (account.counter, account.pin_is_entered) = (counter, false);
        }
    }

    /// The keys of the channel, as the kernel derives them: in no answer, this one and those that follow.
    fn learn_session(&mut self, kernel_key: &PrivateKey, key_data: &[u8]) {
        let blinded = PublicX::from_bytes(&key_data[..32].try_into().unwrap()).unwrap();
        let shared = kernel_key.shared_x(&blinded);
        let derivation = derivation_key(shared.expose());
        let (confidentiality, integrity) = session_keys(derivation.expose());
        let keys = [&derivation, &confidentiality, &integrity];
        self.session = keys.into_iter().map(|key| *key.expose()).collect();
        self.session.insert(shared.expose()[..16].try_into().unwrap());
    }

    fn check_secrets(&self, data: &[u8]) {
        for bytes in data.windows(16) {
            let is_secret = self.secrets.contains(bytes) || self.session.contains(bytes);
            assert!(!is_secret, "a key in a reply");
        }
    }

    /// All keys that the phone holds, and what comes from them for the next payments.
    pub fn learn_secrets<'i>(&mut self, phone: &Phone, issuers: impl Iterator<Item = &'i Issuer>) {
        let content = serde_json::to_value(phone.card.wallet()).unwrap();
        self.secrets.clear();
        let mut indices = HashSet::new();
        collect(&content, &mut self.secrets, &mut indices);
        for (issuer, first) in issuers.zip(counters(phone)) {
            for index in &indices {
                for class in [KeyClass::Unverified, KeyClass::Verified] {
                    let key = issuer.key_of(class, *index);
                    let next = first..first.saturating_add(12);
                    self.secrets.extend(next.map(|counter| *key.session_key(counter).expose()));
                }
            }
        }
        assert!(self.secrets.len() > 8, "device key, card keys, limited-use keys at least");
    }
}

/// The counters of both tokens, by the order in which they were enrolled.
fn counters(phone: &Phone) -> [u16; 2] {
    let mut tokens: Vec<_> = phone.card.wallet().tokens().collect();
    tokens.sort_by_key(|token| token.id());
    core::array::from_fn(|number| tokens[number].application_transaction_counter())
}

/// Whatever stands as hexadecimal digits of a key's length, but what everybody may see.
fn collect(
    value: &serde_json::Value,
    secrets: &mut HashSet<[u8; 16]>,
    indices: &mut HashSet<KeyIndex>,
) {
    const PUBLIC: [&str; 6] = [
        "profile",
        "icc_certificate",
        "merchant_trust",
        "recipient",
        "sealed_key",
        "configurations",
    ];
    match value {
        serde_json::Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !PUBLIC.contains(&name.as_str()))
            .for_each(|(_, value)| collect(value, secrets, indices)),
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| collect(value, secrets, indices));
        }
        serde_json::Value::String(text) if text.len() == 7 => {
            indices.extend(text.parse::<KeyIndex>());
        }
        serde_json::Value::String(text) if [32, 64].contains(&text.len()) => {
            let bytes = data_encoding::HEXLOWER.decode(text.as_bytes());
            secrets.extend(bytes.map(|bytes| -> [u8; 16] { bytes[..16].try_into().unwrap() }));
        }
        _ => {}
    }
}
