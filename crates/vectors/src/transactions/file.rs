//! The form of a transaction file. A field that is not known here is an error: nothing is skipped.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tapfer_emv::tlv::Tag;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::HexBytes;

/// One transaction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transaction {
    /// What it is about.
    pub(super) name: String,
    /// The terminal's time.
    pub(super) now: Timestamp,
    /// How long the card took.
    pub(super) command_ms: Times,
    /// How the card was made to behave.
    pub(super) card_options: BTreeMap<String, Value>,
    /// What the terminal had.
    pub(super) terminal: Terminal,
    /// Commands and answers.
    pub(super) exchange: Vec<(HexBytes, HexBytes)>,
    /// What the terminal said in the end.
    pub(super) outcome: Outcome,
    /// What the card knew.
    pub(super) card_facts: CardFacts,
}

/// The measured time of all commands, or of each.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Times {
    All(u64),
    Each(Vec<u64>),
}

/// What the terminal had.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Terminal {
    pub(super) config: BTreeMap<String, HexBytes>,
    pub(super) session: BTreeMap<String, HexBytes>,
    pub(super) ca_public_key: CaKey,
    /// `null`: the dialogue did not come far enough to need one.
    pub(super) kernel_private: Option<HexBytes>,
    /// As `kernel_private`.
    pub(super) unpredictable_number: Option<HexBytes>,
}

/// The certification authority's key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaKey {
    pub(super) rid: HexBytes,
    pub(super) index: HexBytes,
    pub(super) x: HexBytes,
    pub(super) y: Option<HexBytes>,
}

/// What the terminal said in the end. `null`: it said nothing of the kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outcome {
    #[serde(rename = "9f8210")]
    pub(super) parameters: Option<HexBytes>,
    #[serde(rename = "9f8205")]
    pub(super) ui_request: Option<HexBytes>,
    #[serde(rename = "9f8219")]
    pub(super) ui_request_on_restart: Option<HexBytes>,
    #[serde(rename = "bf8103")]
    pub(super) discretionary_data: Option<HexBytes>,
    #[serde(rename = "bf8102")]
    pub(super) data_record: Option<HexBytes>,
    pub(super) tvr: Option<HexBytes>,
    pub(super) cvm_results: Option<HexBytes>,
}

/// What the card knew, as far as the transaction came.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CardFacts {
    pub(super) issuer_private: Option<HexBytes>,
    pub(super) card_private: Option<HexBytes>,
    pub(super) card_master_key: Option<HexBytes>,
    pub(super) aid: Option<HexBytes>,
    pub(super) pdol: Option<HexBytes>,
    pub(super) cdol1: Option<HexBytes>,
    pub(super) sda_hash: Option<HexBytes>,
    pub(super) blinding_factor: Option<HexBytes>,
    pub(super) application_cryptogram: Option<HexBytes>,
    pub(super) iad_mac: Option<HexBytes>,
    pub(super) iad_with_mac: Option<HexBytes>,
    pub(super) skc: Option<HexBytes>,
    pub(super) ski: Option<HexBytes>,
}

impl Times {
    /// The time of one exchange.
    pub(super) fn of(&self, exchange: usize) -> Duration {
        let milliseconds = match self {
            Self::All(all) => *all,
            Self::Each(each) => each.get(exchange).copied().unwrap_or_default(),
        };
        Duration::from_millis(milliseconds)
    }
}

impl Transaction {
    /// An option of the card, in lower case; empty if it was not given.
    pub(super) fn option(&self, name: &str) -> String {
        let value = self.card_options.get(name).and_then(Value::as_str);
        value.unwrap_or_default().to_ascii_lowercase()
    }
}

/// Exactly `N` bytes.
pub(super) fn array<const N: usize>(bytes: &HexBytes) -> Option<[u8; N]> {
    bytes.0.as_slice().try_into().ok()
}

/// Tags as hexadecimal names with their values. `Err`: a name that is no tag.
pub(super) fn data_objects(
    objects: &BTreeMap<String, HexBytes>,
) -> Result<Vec<(Tag, &[u8])>, String> {
    objects
        .iter()
        .map(|(name, value)| {
            let number = u32::from_str_radix(name, 16);
            number
                .map(|number| (Tag::new(number), value.0.as_slice()))
                .map_err(|_| format!("{name} is no tag"))
        })
        .collect()
}
