//! Entries read back as they were written, and damaged ones are named.

use proptest::option;
use proptest::prelude::*;
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::policy::{LastVerified, SinceVerified};
use tapfer_payment_types::{
    ApiKeyId, AuthorizationId, CardId, Currency, IssuerId, MerchantId, Money, PaymentIntentId,
    TerminalId, Timestamp, TokenId,
};
use tapfer_payments::access::Role;
use tapfer_payments::audit::Caller;
use tapfer_payments::authorization::{Authorization, DeclineReason, Outcome, SpentCounter};
use tapfer_payments::intents::{Arming, ArmingState, CaptureMethod, IntentStatus, PaymentIntent};
use tapfer_payments::keys::{CounterRange, GrantedKey};
use tapfer_payments::pins::{CardPin, PersonKeyState, VerificationHistory};
use tapfer_payments::tokens::{Actor, SuspendedBy, TokenState};

use super::record::REQUIREMENTS;
use super::{Decided, Entry, JournalEnd, JournalFault, reads_back};
use crate::StoredResponse;
use crate::idempotency::GivenAnswer;

const START: JournalEnd = JournalEnd { entry: 0, hash: [0; 32] };

pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_unix_millis)
}

fn money() -> impl Strategy<Value = Money> {
    any::<i64>().prop_map(|minor| Money::new(minor, Currency::EUR))
}

fn key_index() -> impl Strategy<Value = KeyIndex> {
    (0..100_u8).prop_map(|counter| KeyIndex::at(Timestamp::from_unix_millis(1), counter).unwrap())
}

fn authorization() -> impl Strategy<Value = Authorization> {
    let ids = (any::<u128>(), any::<u128>(), any::<u128>(), any::<u128>());
    let optional = (option::of(any::<u128>()), option::of(any::<u128>()), option::of(key_index()));
    let outcome = prop_oneof![
        Just(Outcome::Approved),
        prop::sample::select(DeclineReason::ALL).prop_map(Outcome::Declined),
    ];
    let rest = (outcome, any::<bool>(), money(), any::<u16>(), time());
    (ids, optional, rest).prop_map(|(ids, (token, card, key_index), rest)| Authorization {
        id: AuthorizationId::from_bits(ids.0),
        payment_intent: PaymentIntentId::from_bits(ids.1),
        merchant: MerchantId::from_bits(ids.2),
        terminal: TerminalId::from_bits(ids.3),
        token: token.map(TokenId::from_bits),
        card: card.map(CardId::from_bits),
        outcome: rest.0,
        merchant_proven: rest.1,
        amount: rest.2,
        application_transaction_counter: rest.3,
        key_index,
        reversal: None,
        created_at: rest.4,
    })
}

fn granted_key() -> impl Strategy<Value = GrantedKey> {
    let counters = option::of((any::<u16>(), any::<u16>()));
    let numbers = (any::<u8>(), any::<u16>(), any::<i64>(), any::<u16>(), any::<i64>());
    (key_index(), any::<bool>(), numbers, time(), time(), counters).prop_map(
        |(index, verified, numbers, granted_at, expires_at, counters)| GrantedKey {
            index,
            class: if verified { KeyClass::Verified } else { KeyClass::Unverified },
            derivation_key_index: numbers.0,
            granted_at,
            expires_at,
            maximum_payments: numbers.1,
            maximum_total_minor: numbers.2,
            used_payments: numbers.3,
            used_total_minor: numbers.4,
            counters: counters.map(|(first, count)| CounterRange { first, count }),
        },
    )
}

fn history() -> impl Strategy<Value = VerificationHistory> {
    let last = option::of((any::<u16>(), prop::sample::select(&REQUIREMENTS[..])));
    (any::<u32>(), any::<i64>(), last, any::<u32>()).prop_map(
        |(payments, sum_minor, last, since_login)| VerificationHistory {
            since: SinceVerified { payments, sum_minor },
            last: last.map(|(application_transaction_counter, reached)| LastVerified {
                application_transaction_counter,
                reached,
            }),
            since_login,
        },
    )
}

fn state() -> impl Strategy<Value = TokenState> {
    let by = (1..=7_u8).prop_map(|bits| SuspendedBy::from_bits(bits).unwrap());
    prop_oneof![
        Just(TokenState::Inactive),
        Just(TokenState::Active),
        Just(TokenState::Deactivated),
        by.prop_map(TokenState::Suspended),
    ]
}

pub(crate) fn intent() -> impl Strategy<Value = PaymentIntent> {
    let ids = (any::<u128>(), any::<u128>(), option::of(any::<u128>()));
    let arming = option::of((any::<u128>(), prop::sample::select(ArmingState::ALL), time()));
    let words = (prop::sample::select(CaptureMethod::ALL), prop::sample::select(IntentStatus::ALL));
    (ids, arming, words, option::of(".*"), money(), any::<(i64, i64)>(), time()).prop_map(
        |(ids, arming, words, reference, amount, minor, created_at)| PaymentIntent {
            id: PaymentIntentId::from_bits(ids.0),
            merchant: MerchantId::from_bits(ids.1),
            amount,
            reference,
            capture_method: words.0,
            status: words.1,
            arming: arming.map(|(terminal, state, expires_at)| Arming {
                terminal: TerminalId::from_bits(terminal),
                state,
                expires_at,
            }),
            authorization: ids.2.map(AuthorizationId::from_bits),
            captured_minor: minor.0,
            refunded_minor: minor.1,
            created_at,
        },
    )
}

pub(crate) fn answer() -> impl Strategy<Value = GivenAnswer> {
    let claim = (any::<u128>(), "[!-~]{1,255}", any::<[u8; 32]>());
    (claim, any::<u16>(), any::<Vec<u8>>(), option::of(any::<[u8; 32]>())).prop_map(
        |((api_key, key, fingerprint), status, body, mac)| {
            let (api_key, key) = (ApiKeyId::from_bits(api_key), key.parse().unwrap());
            let response = StoredResponse { status, body };
            GivenAnswer { api_key, key, fingerprint, response, mac }
        },
    )
}

pub(crate) fn decided() -> impl Strategy<Value = Decided> {
    let caller = (option::of(any::<u128>()), prop::sample::select(Role::ALL), ".*", ".*");
    let spent = option::of((option::of(any::<[u8; 8]>()), any::<bool>()));
    let person_key = option::of((any::<u32>(), any::<u8>(), any::<bool>()));
    let card_pin = option::of((any::<[u8; 32]>(), any::<u8>()));
    let asked_key = option::of((any::<u128>(), any::<u8>()));
    let behind = (option::of(granted_key()), person_key, card_pin, option::of(history()));
    let rest = (option::of(state()), option::of(intent()), option::of(answer()));
    (authorization(), caller, asked_key, spent, behind, rest).prop_map(
        |(authorization, caller, asked_key, spent, behind, rest)| Decided {
            caller: Caller {
                api_key: caller.0.map(ApiKeyId::from_bits),
                role: caller.1,
                origin: caller.2,
                request_id: caller.3,
            },
            asked_key: asked_key
                .map(|(issuer, generation)| (IssuerId::from_bits(issuer), generation)),
            spent: spent.map(|(cryptogram, verified)| SpentCounter {
                authorization: authorization.id,
                payment_intent: authorization.payment_intent,
                terminal: authorization.terminal,
                cryptogram,
                verified,
            }),
            used_key: behind.0,
            person_key: behind.1.map(|(generation, failed, reset_granted)| PersonKeyState {
                generation,
                failed,
                reset_granted,
            }),
            card_pin: behind.2.map(|(value, failed)| CardPin { value, failed }),
            history: behind.3,
            suspended: rest.0,
            intent: rest.1,
            answer: rest.2,
            authorization,
        },
    )
}

#[test]
fn one_actor_is_one_bit() {
    // The numbers above the bits are states that nobody suspended: they must never meet.
    let all = Actor::ALL.iter().map(|actor| SuspendedBy::only(*actor).bits()).fold(0, |a, b| a | b);
    assert!(all < 0xFE);
}

proptest! {
    #[test]
    fn entries_read_back_and_damaged_ones_are_named(
        lots in prop::collection::vec(prop::collection::vec(decided(), 0..4), 2..4),
        damage in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut end = START;
        let mut entries = Vec::new();
        for lot in &lots {
            let entry = end.entry_of(lot);
            prop_assert_eq!(&end.read(&entry).unwrap(), lot);
            end = entry.end;
            entries.push(entry);
        }
        let [first, second] = [&entries[0], &entries[1]];
        let missing = JournalFault::Missing { expected: 1, found: 2 };
        prop_assert_eq!(START.read(second), Err(missing));
        let mut altered = second.clone();
        *damage.get_mut(&mut altered.records) ^= 1 << bit;
        prop_assert_eq!(first.end.read(&altered), Err(JournalFault::Altered(2)));
        let swapped = Entry { records: first.records.clone(), ..second.clone() };
        prop_assert_eq!(first.end.read(&swapped).is_err(), first.records != second.records);
        let mut cut = second.clone();
        cut.records.pop();
        prop_assert_eq!(first.end.read(&cut), Err(JournalFault::Altered(2)));
    }

    #[test]
    fn any_bytes_are_records_or_not(mut bytes in any::<Vec<u8>>(), whole in decided(), cut in any::<prop::sample::Index>()) {
        prop_assert_ne!(reads_back(&bytes), Some(false));
        bytes.insert(0, 1);
        prop_assert_ne!(reads_back(&bytes), Some(false));
        let records = START.entry_of(&[whole]).records;
        prop_assert_eq!(reads_back(&records), Some(true));
        let cut = cut.index(records.len());
        prop_assert_eq!(reads_back(&records[..cut]).is_some(), cut == 1);
    }
}
