//! The keys of a demo realm, for everyone to see, so that anyone can recompute a cryptogram.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use data_encoding::HEXUPPER;
use serde_json::json;
use tapfer_emv::apdu::ResponseApdu;
use tapfer_emv::iad::IssuerApplicationData;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_hsm::{PaymentHsm as _, SoftwareHsm};
use tapfer_payment_types::{IssuerId, PanSequenceNumber, TokenPan};
use tapfer_wallet::{Token, Wallet};

use crate::clock;
use crate::context::Context;
use crate::output::Output;
use crate::unlock;
use crate::wallet_store::WalletStore;

/// Generation of the issuer master key that demo realms have.
const DERIVATION_KEY_INDEX: u8 = 1;

/// Everything needed to recompute the cryptograms of one token.
pub(crate) struct TestKeys {
    issuer_master_key: IssuerMasterKey,
    token: TokenPan,
    sequence: PanSequenceNumber,
    next_key_index: Option<String>,
}

impl TestKeys {
    /// Reads the issuer master key from the key store in the home directory, and the token's number
    /// from the wallet.
    ///
    /// # Errors
    /// No demo realm; no key store; a key store that does not open; an empty wallet.
    pub(crate) fn open(
        context: &Context,
        store: &WalletStore,
        wallet: &Wallet,
        passphrase_file: &Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let unlock = unlock::find(&context.home, passphrase_file.as_deref())?;
        let realm = context.home.realm();
        let hsm = SoftwareHsm::open(&realm.keystore(), &realm.catalogue(), &unlock)?;
        let Some(token) = wallet.tokens().next() else {
            bail!("the wallet is empty: run `tapfer wallet enrol`");
        };
        let issuer: IssuerId = store.phone()?.issuer(token.id())?.parse()?;
        let issuer_master_key = hsm.demo_keys(issuer, DERIVATION_KEY_INDEX)?.issuer_master_key;
        let (number, sequence) = card_number(token).context("the token has no number")?;
        let next_key_index = token.next_key_index(clock::now()).map(|index| index.to_string());
        Ok(Self { issuer_master_key, token: number, sequence, next_key_index })
    }

    /// Shows the keys once, before the first tap.
    pub(crate) fn show(&self, output: Output) -> anyhow::Result<()> {
        let master_key = HEXUPPER.encode(self.issuer_master_key.expose());
        if output.is_json() {
            return output.json_line(&json!({
                "issuer_master_key": master_key,
                "derivation_key_index": DERIVATION_KEY_INDEX,
                "token_pan": self.token.expose(),
                "pan_sequence_number": format!("{:02}", self.sequence.value()),
                "key_class": "01",
                "key_index": self.next_key_index,
            }));
        }
        output.line("Test keys of a demo realm; with these anyone can recompute the cryptogram:");
        output.line(format!("issuer master key     {master_key}"));
        output.line(format!("derivation key index  {DERIVATION_KEY_INDEX:02X}"));
        output.line(format!("token PAN             {}", self.token.expose()));
        output.line(format!("PAN sequence number   {:02}", self.sequence.value()));
        output.line("key class             01");
        output.line(format!(
            "key index             {}",
            self.next_key_index.as_deref().unwrap_or("none left: run `tapfer wallet replenish`")
        ));
        output.line("token key       = AES-ECB(issuer master key, token PAN and sequence number, zeros on the left)");
        output.line(
            "limited-use key = AES-ECB(token key, key class | 0 and key index | 11 zero bytes)",
        );
        output.line(
            "session key     = AES-ECB(limited-use key, transaction counter | 14 zero bytes)",
        );
        output.line("cryptogram      = first 8 bytes of AES-CMAC(session key, 29 terminal bytes | AIP | counter | IAD with the IAD-MAC as its last 8 bytes)");
        Ok(())
    }

    /// Shows the keys of one payment, if the answer is one to GENERATE AC.
    pub(crate) fn show_payment(&self, output: Output, answer: &[u8]) -> anyhow::Result<()> {
        let Some(payment) = Payment::read(answer) else { return Ok(()) };
        let Ok(iad) = IssuerApplicationData::parse(&payment.issuer_application_data) else {
            return Ok(());
        };
        let token_key = self.issuer_master_key.token_key(&self.token, self.sequence);
        let limited_use_key = token_key.limited_use_key(iad.results.key_class, iad.key_index);
        let session_key = limited_use_key.session_key(payment.counter);
        let values = [
            ("key_index", iad.key_index.to_string()),
            ("application_transaction_counter", format!("{:04X}", payment.counter)),
            ("token_key", HEXUPPER.encode(token_key.expose())),
            ("limited_use_key", HEXUPPER.encode(limited_use_key.expose())),
            ("session_key", HEXUPPER.encode(session_key.expose())),
            ("issuer_application_data", HEXUPPER.encode(&payment.issuer_application_data)),
            ("application_cryptogram", HEXUPPER.encode(&payment.cryptogram)),
        ];
        if output.is_json() {
            let object: serde_json::Map<_, _> =
                values.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            return output.json_line(&json!({ "payment": object }));
        }
        output.line("Payment:");
        for (name, value) in values {
            output.line(format!("  {:<32} {value}", name.replace('_', " ")));
        }
        Ok(())
    }
}

/// What of an answer to GENERATE AC tells the key.
struct Payment {
    counter: u16,
    issuer_application_data: Vec<u8>,
    cryptogram: Vec<u8>,
}

impl Payment {
    fn read(answer: &[u8]) -> Option<Self> {
        let response = ResponseApdu::parse(answer).ok()?;
        let template = tlv::parse_one(&response.data).ok()?;
        let value = |tag| tlv::find(template.value, tag).ok().flatten();
        Some(Self {
            cryptogram: value(tags::APPLICATION_CRYPTOGRAM)?.to_vec(),
            counter: u16::from_be_bytes(
                value(tags::APPLICATION_TRANSACTION_COUNTER)?.try_into().ok()?,
            ),
            issuer_application_data: value(tags::ISSUER_APPLICATION_DATA)?.to_vec(),
        })
    }
}

/// Number and sequence number as they stand in the card's records.
fn card_number(token: &Token) -> Option<(TokenPan, PanSequenceNumber)> {
    let value = |tag| {
        let records = token.profile().records.iter();
        records.filter_map(|record| tlv::find(&record.value, tag).ok().flatten()).next()
    };
    let digits = HEXUPPER.encode(value(tags::APPLICATION_PAN)?);
    let number = digits.trim_end_matches('F').parse().ok()?;
    let sequence = match value(tags::PAN_SEQUENCE_NUMBER) {
        Some(digits) => HEXUPPER.encode(digits).parse::<u8>().ok()?,
        None => 0,
    };
    Some((number, PanSequenceNumber::new(sequence).ok()?))
}
