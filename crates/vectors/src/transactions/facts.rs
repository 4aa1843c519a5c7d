//! The card's side: what the card knew is recomputed from its keys and the dialogue.
//!
//! A card that was made to misbehave (`card_options`) is taken at its word only where its fault is:
//! everything else about it has to hold. What cannot be found wrong is an input that nothing in the
//! dialogue depends on, such as a limit that is not reached, or the key of a card that was not asked.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::Value;
use tapfer_emv::certificate::{self, IccCertificate, IssuerCertificate};
use tapfer_emv::channel::{self, IadMacInput, SecureChannel};
use tapfer_emv::cryptogram::application_cryptogram;
use tapfer_emv::curve::{PrivateKey, PublicPoint, PublicX};
use tapfer_emv::dol::parse_tag_list;
use tapfer_emv::ecsdsa;
use tapfer_emv::keys::TokenKey;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Reader, Tag};
use tapfer_payment_types::messages::HexBytes;

use super::Findings;
use super::dialogue::{Dialogue, Exchange, Record, find_anywhere};
use super::faults::Faults;
use super::file::{CardFacts, Transaction, array};
use super::replay::ca_public_key;

/// How many bytes of the CDOL1 values go into the cryptogram (Book E 4).
const CRYPTOGRAM_BYTES_OF_CDOL1: usize = 29;

/// Recomputes every fact that the dialogue came far enough for.
pub(super) fn check(findings: &mut Findings<'_>, transaction: &Transaction, faults: &Faults) {
    let Some(dialogue) = Dialogue::read(transaction) else {
        findings.holds("exchange", "every command and answer is one", false);
        return;
    };
    let card = Card { transaction, facts: &transaction.card_facts, faults, dialogue };
    card.check_lists(findings);
    card.check_options(findings);
    card.check_status_words(findings);
    card.check_authority(findings);
    card.check_keys(findings);
}

struct Card<'a> {
    transaction: &'a Transaction,
    facts: &'a CardFacts,
    faults: &'a Faults,
    dialogue: Dialogue,
}

/// What follows from the keys of both sides.
struct Channel {
    secure_channel: SecureChannel,
    records: Option<Vec<Record>>,
}

fn key(bytes: Option<&HexBytes>) -> Option<PrivateKey> {
    PrivateKey::from_bytes(&array(bytes?)?).ok()
}

impl Card<'_> {
    /// AID and lists as the card sent them.
    fn check_lists(&self, findings: &mut Findings<'_>) {
        let facts = self.facts;
        let answers = [
            ("aid", &facts.aid, self.dialogue.fci_object(tags::DF_NAME)),
            ("pdol", &facts.pdol, self.dialogue.fci_object(tags::PDOL)),
            ("cdol1", &facts.cdol1, self.dialogue.options_object(tags::CDOL1)),
        ];
        for (name, fact, sent) in answers {
            if let (Some(fact), Some(sent)) = (fact, sent) {
                let field = format!("card_facts/{name}");
                findings.compare_bytes(&field, Some(&fact.0), Some(&sent));
            }
        }
        // Suites and reserved bits of the card qualifier (Book C-8 A.1.29) change nothing in the
        // dialogue as long as P-256 is among them.
        let qualifier = self.dialogue.fci_object(tags::CARD_QUALIFIER);
        if let (Some(qualifier), "") =
            (qualifier, self.transaction.option("card_qualifier").as_str())
        {
            let is_known = match qualifier.as_slice() {
                [0x02, suites @ .., capabilities, 0x00, 0x00] => {
                    suites.len() == 3
                        && suites.iter().all(|suite| matches!(suite, 0x00 | 0x01 | 0xFF))
                        && capabilities & 0x7F == 0
                }
                _ => false,
            };
            findings.holds("exchange/0/response", "a card qualifier of version 2", is_known);
        }
    }

    /// What the card was told to send is what it sent.
    fn check_options(&self, findings: &mut Findings<'_>) {
        let generate_ac = self.dialogue.answered(0x80, 0xAE);
        let answered = |tag: Tag| find_anywhere(&generate_ac?.response.data, tag);
        let relay =
            self.dialogue.answered(0x80, 0xEA).map(|exchange| exchange.response.data.clone());
        let relay_time = |place: core::ops::Range<usize>| {
            relay.as_ref().and_then(|answer| answer.get(place).map(<[u8]>::to_vec))
        };
        let sent: [(&str, Option<Vec<u8>>); 9] = [
            ("aip", self.dialogue.options_object(tags::APPLICATION_INTERCHANGE_PROFILE)),
            ("card_qualifier", self.dialogue.fci_object(tags::CARD_QUALIFIER)),
            ("cvd", answered(tags::CARDHOLDER_VERIFICATION_DECISION)),
            ("cid", answered(tags::CRYPTOGRAM_INFORMATION_DATA)),
            ("card_tvr", answered(tags::CARD_TVR)),
            ("restart", answered(tags::RESTART_INDICATOR)),
            ("rr_min", relay_time(6..8)),
            ("rr_max", relay_time(8..10)),
            ("rr_estimate", relay_time(10..12)),
        ];
        for (name, sent) in sent {
            let option = self.transaction.option(name);
            if let (false, Some(sent)) = (option.is_empty(), sent) {
                let sent = HEXLOWER.encode(&sent);
                findings.compare(&format!("card_options/{name}"), &option, &sent);
            }
        }
    }

    /// The status words the card was told to answer with.
    fn check_status_words(&self, findings: &mut Findings<'_>) {
        let told = self.transaction.card_options.get("sw").and_then(Value::as_object);
        for (command, status) in told.into_iter().flatten() {
            let header = HEXLOWER_PERMISSIVE.decode(command.as_bytes()).unwrap_or_default();
            let [class, instruction] = header.as_slice() else {
                continue;
            };
            let answered = self.dialogue.commands(*class, *instruction).last();
            if let (Some(answered), Some(status)) = (answered, status.as_str()) {
                let sent = HEXLOWER.encode(&answered.response.status.bytes());
                let field = format!("card_options/sw/{command}");
                findings.compare(&field, &status.to_ascii_lowercase(), &sent);
            }
        }
    }

    /// x and y of the certification authority are a point.
    fn check_authority(&self, findings: &mut Findings<'_>) {
        let key = &self.transaction.terminal.ca_public_key;
        if let Some(y) = &key.y {
            let point = [key.x.0.as_slice(), &y.0].concat();
            let is_point = <&[u8; 64]>::try_from(point.as_slice())
                .is_ok_and(|point| PublicPoint::from_bytes(point).is_ok());
            findings.holds("terminal/ca_public_key", "a point of P-256", is_point);
        }
    }

    /// Everything that needs the private keys.
    fn check_keys(&self, findings: &mut Findings<'_>) {
        let keys = [
            ("issuer_private", self.facts.issuer_private.as_ref()),
            ("card_private", self.facts.card_private.as_ref()),
        ];
        for (name, bytes) in keys {
            let is_key = bytes.is_none() || key(bytes).is_some();
            findings.holds(&format!("card_facts/{name}"), "a private key of P-256", is_key);
        }
        let Some(mut channel) = self.open_channel(findings) else {
            return;
        };
        channel.records = self.dialogue.records(&mut channel.secure_channel);
        let Some(records) = &channel.records else {
            return;
        };
        let sda_hash = self.check_sda_hash(findings, records);
        self.check_certificates(findings, records, &sda_hash);
        self.check_cryptogram(findings, &channel.secure_channel, records, &sda_hash);
    }

    /// Card key data, session keys and blinding factor, from both sides' keys.
    fn open_channel(&self, findings: &mut Findings<'_>) -> Option<Channel> {
        let card_private = key(self.facts.card_private.as_ref())?;
        let kernel = key(self.transaction.terminal.kernel_private.as_ref())?;
        let kernel_point = PublicPoint::from_bytes(&kernel.public_point()).ok()?;
        let factor = array(self.facts.blinding_factor.as_ref()?)?;
        let opened =
            SecureChannel::card_with_blinding_factor(&card_private, &kernel_point, &factor);
        let Ok((secure_channel, card_key_data)) = opened else {
            findings.holds("card_facts/blinding_factor", "a blinding factor", false);
            return None;
        };
        let (blinded, encrypted_factor) = card_key_data.split_at(32);
        if let Some(sent) = self.dialogue.options_object(tags::CARD_KEY_DATA) {
            let (sent_key, sent_factor) = sent.split_at_checked(32)?;
            findings.compare_bytes("9f8103/key", Some(sent_key), Some(blinded));
            if !self.faults.has("blinding_factor") {
                let length = sent_factor.len().min(encrypted_factor.len());
                findings.compare_bytes(
                    "9f8103/factor",
                    Some(sent_factor),
                    encrypted_factor.get(..length),
                );
            }
        }
        let blinded = PublicX::from_bytes(&blinded.try_into().ok()?).ok()?;
        let shared = kernel.shared_x(&blinded);
        let derivation_key = channel::derivation_key(shared.expose());
        let (skc, ski) = channel::session_keys(derivation_key.expose());
        compare_fact(findings, "skc", self.facts.skc.as_ref(), skc.expose());
        compare_fact(findings, "ski", self.facts.ski.as_ref(), ski.expose());
        Some(Channel { secure_channel, records: None })
    }

    fn object_of_records(records: &[Record], tag: Tag) -> Option<Vec<u8>> {
        records.iter().find_map(|record| find_anywhere(&record.content, tag))
    }

    /// The hash over records, listed data objects and AIP as they were sent.
    fn check_sda_hash(&self, findings: &mut Findings<'_>, records: &[Record]) -> [u8; 32] {
        let signed: Vec<&[u8]> = records
            .iter()
            .filter(|record| record.signed)
            .map(|record| record.content.as_slice())
            .collect();
        let listed = Self::object_of_records(records, tags::EXTENDED_SDA_TAG_LIST);
        let listed = parse_tag_list(&listed.unwrap_or_default()).unwrap_or_default();
        let extended = certificate::extended_data(listed, |tag| self.object(records, tag));
        let profile = self.dialogue.options_object(tags::APPLICATION_INTERCHANGE_PROFILE);
        let profile = profile.and_then(|aip| aip.try_into().ok()).unwrap_or_default();
        let hash = certificate::sda_hash(&signed, &extended, profile);
        // A record that was changed on the way has another hash than the card's.
        if !self.faults.has("record_bit") {
            compare_fact(findings, "sda_hash", self.facts.sda_hash.as_ref(), &hash);
        }
        hash
    }

    /// A data object of the card or of the terminal's configuration, wherever it is.
    fn object(&self, records: &[Record], tag: Tag) -> Option<Vec<u8>> {
        let configured = || {
            let name = format!("{tag}").to_ascii_lowercase();
            let terminal = &self.transaction.terminal;
            let value = terminal.session.get(&name).or_else(|| terminal.config.get(&name))?;
            Some(value.0.clone())
        };
        self.dialogue
            .fci_object(tag)
            .or_else(|| self.dialogue.options_object(tag))
            .or_else(|| Self::object_of_records(records, tag))
            .or_else(configured)
    }

    /// The certificates carry the public keys of the private ones, and their signatures hold.
    fn check_certificates(
        &self,
        findings: &mut Findings<'_>,
        records: &[Record],
        sda_hash: &[u8; 32],
    ) {
        let issuer_bytes = Self::object_of_records(records, tags::ISSUER_CERTIFICATE);
        let icc_bytes = Self::object_of_records(records, tags::ICC_CERTIFICATE);
        let index = Self::object_of_records(records, tags::CA_PUBLIC_KEY_INDEX);
        self.check_certificate_options(
            findings,
            issuer_bytes.as_deref(),
            icc_bytes.as_deref(),
            index.as_deref(),
        );
        // A format that is none, a date that is no date, a bit on the way: what the option names was
        // compared above, and what becomes of the payment is for the replay to judge.
        let is_meant = self.faults.touch_certificates() || self.faults.has("record_bit");
        let issuer_private = key(self.facts.issuer_private.as_ref());
        if let (Some(bytes), Some(private)) = (issuer_bytes, &issuer_private) {
            match IssuerCertificate::parse(&bytes) {
                Ok(issuer) => self.check_issuer_certificate(findings, &issuer, private),
                Err(_) => findings.holds("90", "an issuer certificate", is_meant),
            }
        }
        if let (Some(bytes), Some(private)) = (icc_bytes, &issuer_private) {
            match IccCertificate::parse(&bytes) {
                Ok(icc) => self.check_icc_certificate(findings, &icc, private, sda_hash),
                Err(_) => findings.holds("9f46", "an ICC certificate", is_meant),
            }
        }
    }

    /// Fields that a card was told to have wrong are as they were told (Book E 5.1, 5.3).
    fn check_certificate_options(
        &self,
        findings: &mut Findings<'_>,
        issuer: Option<&[u8]>,
        icc: Option<&[u8]>,
        index: Option<&[u8]>,
    ) {
        let fields = [
            ("issuer_format", issuer, 0..1),
            ("issuer_id", issuer, 2..7),
            ("issuer_expiry", issuer, 8..12),
            ("cert_rid", issuer, 15..20),
            ("cert_ca_index", issuer, 20..21),
            ("icc_expiry", icc, 3..9),
            ("ca_index", index, 0..1),
        ];
        for (name, bytes, place) in fields {
            let option = self.transaction.option(name);
            let sent = bytes.and_then(|bytes| bytes.get(place));
            if let (false, Some(sent)) = (option.is_empty(), sent) {
                let sent = HEXLOWER.encode(sent);
                findings.compare(&format!("card_options/{name}"), &option, &sent);
            }
        }
    }

    fn check_issuer_certificate(
        &self,
        findings: &mut Findings<'_>,
        issuer: &IssuerCertificate,
        private: &PrivateKey,
    ) {
        let public = private.public_x();
        let certified = issuer.public_key.bytes();
        findings.compare_bytes("90/public_key", Some(certified), Some(public.bytes()));
        let ca = match ca_public_key(&self.transaction.terminal.ca_public_key) {
            Ok(ca) => ca,
            Err(problem) => return findings.compare("terminal/ca_public_key", "a key", &problem),
        };
        // A terminal that does not know the authority finds that out in the replay.
        let is_known = (issuer.rid, issuer.ca_index) == (ca.rid, ca.index);
        if is_known && !self.faults.has("issuer_signature") {
            let result = ecsdsa::verify(&ca.key, &issuer.message(), &issuer.signature);
            findings.holds("90/signature", "the authority's signature holds", result.is_ok());
        }
    }

    fn check_icc_certificate(
        &self,
        findings: &mut Findings<'_>,
        icc: &IccCertificate,
        issuer_private: &PrivateKey,
        sda_hash: &[u8; 32],
    ) {
        if let Some(private) = key(self.facts.card_private.as_ref()) {
            let (certified, public) = (icc.public_key.bytes(), private.public_x());
            findings.compare_bytes("9f46/public_key", Some(certified), Some(public.bytes()));
        }
        if !self.faults.has("icc_signature") {
            let signer = issuer_private.public_x();
            let result = ecsdsa::verify(&signer, &icc.message(), &icc.signature);
            findings.holds("9f46/signature", "the issuer's signature holds", result.is_ok());
        }
        let is_meant = ["sda_hash", "record_bit"].iter().any(|bad| self.faults.has(bad));
        if !is_meant {
            findings.compare_bytes("9f46/sda_hash", Some(&icc.sda_hash), Some(sda_hash));
        }
    }

    /// IAD-MAC, IAD with it, application cryptogram and EDA-MAC.
    fn check_cryptogram(
        &self,
        findings: &mut Findings<'_>,
        secure_channel: &SecureChannel,
        records: &[Record],
        sda_hash: &[u8; 32],
    ) -> Option<()> {
        let generate_ac = self.dialogue.answered(0x80, 0xAE)?;
        let answer = tlv::parse_one(&generate_ac.response.data).ok()?;
        let cdol1_values = &generate_ac.command.data;
        let pdol_values = self.dialogue.pdol_values()?;
        let relay = self.dialogue.answered(0x80, 0xEA).and_then(|exchange| {
            let entropy: [u8; 4] = exchange.command.data.as_slice().try_into().ok()?;
            let value: [u8; 10] = exchange.response.data.get(2..)?.try_into().ok()?;
            Some((entropy, value))
        });
        let iad_mac = secure_channel.iad_mac(&IadMacInput {
            pdol_values: &pdol_values,
            cdol1_values,
            relay_resistance: relay.as_ref().map(|(entropy, value)| (entropy, value)),
            generate_ac_tlvs: &signed_tlvs(answer.value),
            sda_hash,
        });
        self.check_signed(findings, secure_channel, records, generate_ac, &iad_mac)
    }

    fn check_signed(
        &self,
        findings: &mut Findings<'_>,
        secure_channel: &SecureChannel,
        records: &[Record],
        generate_ac: &Exchange,
        iad_mac: &[u8; 8],
    ) -> Option<()> {
        let answered = |tag| find_anywhere(&generate_ac.response.data, tag);
        // What was changed behind the card's back does not fit what the card computed.
        let is_changed = ["iad_bit", "record_bit"].iter().any(|bad| self.faults.has(bad));
        if !is_changed {
            compare_fact(findings, "iad_mac", self.facts.iad_mac.as_ref(), iad_mac);
        }
        if let Some(mut iad) = answered(tags::ISSUER_APPLICATION_DATA).filter(|_| !is_changed) {
            let offset = answered(tags::IAD_MAC_OFFSET)
                .or_else(|| Self::object_of_records(records, tags::IAD_MAC_OFFSET));
            self.copy_mac(&mut iad, iad_mac, offset);
            compare_fact(findings, "iad_with_mac", self.facts.iad_with_mac.as_ref(), &iad);
        }
        let known = self.facts.application_cryptogram.as_ref();
        let sent =
            answered(tags::APPLICATION_CRYPTOGRAM).filter(|_| !self.faults.has("cryptogram"));
        let Some(signed) = self.application_cryptogram(generate_ac) else {
            // What it was computed from was not sent; it was.
            sent.iter()
                .for_each(|sent| compare_fact(findings, "application_cryptogram", known, sent));
            return None;
        };
        compare_fact(findings, "application_cryptogram", known, &signed);
        if let Some(sent) = sent {
            findings.compare_bytes("9f26", Some(&sent), Some(&signed));
        }
        let known_mac = self.facts.iad_mac.as_ref().and_then(array);
        let eda_mac = secure_channel.eda_mac(&signed, &known_mac.unwrap_or(*iad_mac));
        if let Some(sent) = answered(tags::EDA_MAC).filter(|_| !self.faults.has("eda_mac")) {
            findings.compare_bytes("9f8105", Some(&sent), Some(&eda_mac));
        }
        Some(())
    }

    /// Where the AIP says that the IAD-MAC belongs (Book C-8 28.1).
    fn copy_mac(&self, iad: &mut [u8], iad_mac: &[u8; 8], offset: Option<Vec<u8>>) {
        let profile = self.dialogue.options_object(tags::APPLICATION_INTERCHANGE_PROFILE);
        let offset = match profile.as_deref() {
            Some([_, second]) if second & 0x06 == 0x02 => {
                self.transaction.terminal.config.get("9f821e").map(|bytes| bytes.0.clone())
            }
            Some([_, second]) if second & 0x06 == 0x04 => offset,
            _ => None,
        };
        let Some([start]) = offset.as_deref() else {
            return;
        };
        let start = usize::from(*start);
        if let Some(place) = iad.get_mut(start..start.saturating_add(iad_mac.len())) {
            place.copy_from_slice(iad_mac);
        }
    }

    /// AES-CMAC over 29 bytes of the terminal, AIP, counter and IAD (Book E 4), with what the card
    /// signed where that is known.
    fn application_cryptogram(&self, generate_ac: &Exchange) -> Option<[u8; 8]> {
        let master_key = array(self.facts.card_master_key.as_ref()?)?;
        let counter =
            find_anywhere(&generate_ac.response.data, tags::APPLICATION_TRANSACTION_COUNTER);
        let counter: [u8; 2] = counter?.as_slice().try_into().ok()?;
        let session_key = TokenKey::new(master_key).session_key(u16::from_be_bytes(counter));
        let input = [
            generate_ac.command.data.get(..CRYPTOGRAM_BYTES_OF_CDOL1)?,
            &self.dialogue.options_object(tags::APPLICATION_INTERCHANGE_PROFILE)?,
            &counter,
            &self.facts.iad_with_mac.as_ref()?.0,
        ]
        .concat();
        Some(application_cryptogram(&session_key, &input))
    }
}

/// The TLVs of an answer but for cryptogram and EDA-MAC.
fn signed_tlvs(answer: &[u8]) -> Vec<u8> {
    let unsigned = [tags::APPLICATION_CRYPTOGRAM, tags::EDA_MAC];
    Reader::new(answer)
        .filter_map(Result::ok)
        .filter(|object| !unsigned.contains(&object.tag))
        .flat_map(|object| object.raw.to_vec())
        .collect()
}

fn compare_fact(findings: &mut Findings<'_>, name: &str, fact: Option<&HexBytes>, computed: &[u8]) {
    if let Some(fact) = fact {
        findings.compare_bytes(&format!("card_facts/{name}"), Some(&fact.0), Some(computed));
    }
}
