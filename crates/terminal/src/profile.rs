//! A terminal's set-up as data: what `profiles/terminal/*.toml` holds. Reading the file is the
//! caller's; here is what it says, and whether that can work.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use data_encoding::HEXUPPER_PERMISSIVE;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::dol::{DataObjectList, parse_tag_list};
use tapfer_emv::tags;
use tapfer_emv::tlv::Tag;
use tapfer_payment_types::{Currency, Money};

use crate::entry_point::Application;
use crate::kernel8::{
    ConfigurationError, KernelConfiguration, RelayResistanceConfiguration, RevokedCertificate,
    bcd_amount, terminal_data,
};
use crate::merchant_proof::WithoutProof;
use crate::messages::Language;
use crate::terminal::TerminalConfiguration;

/// Bytes as hexadecimal digits, exactly `N` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// Any number of bytes as hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HexList(pub Vec<u8>);

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    HEXUPPER_PERMISSIVE.decode(text.as_bytes()).ok()
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hexadecimal(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "write {N} bytes as {} hexadecimal digits in quotes",
                N.saturating_mul(2)
            ))
        })
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXUPPER_PERMISSIVE.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let error = "write bytes as an even number of hexadecimal digits in quotes";
        hexadecimal(&text).map(Self).ok_or_else(|| serde::de::Error::custom(error))
    }
}

impl Serialize for HexList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXUPPER_PERMISSIVE.encode(&self.0))
    }
}

/// A terminal profile. Unknown keys are refused: a limit that was misspelt would not be one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalProfile {
    /// What people call it.
    pub name: String,
    /// What it speaks to people whose card names no language that it has.
    pub language: Language,
    /// ISO 3166-1 numeric, as a number: 276.
    pub country: u16,
    /// ISO 4217, of every limit here.
    pub currency: Currency,
    /// Application identifiers it takes; none: those of the platform's issuers.
    #[serde(default)]
    pub applications: Vec<HexList>,
    /// What becomes of a tap whose merchant proof cannot be made.
    #[serde(default)]
    pub without_proof: WithoutProof,
    /// Entry point and limits.
    pub limits: Limits,
    /// Kernel 8.
    pub kernel8: KernelProfile,
}

/// Amounts in minor units of the profile's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most it takes by a tap; left out: anything.
    pub contactless_transaction: Option<i64>,
    /// Above it the payment goes online.
    pub floor: i64,
    /// Above it the person is to be verified.
    pub verification: i64,
    /// Whether it may be tapped for nothing.
    #[serde(default)]
    pub zero_amount_allowed: bool,
    /// Whether a tap for one unit of the currency is a question after the card's state.
    #[serde(default)]
    pub status_check: bool,
    /// Whether the card's `9F29` is part of the name that is selected.
    #[serde(default)]
    pub extended_selection: bool,
}

/// The fields of [`KernelConfiguration`], which says what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "KernelConfiguration documents them")]
pub struct KernelProfile {
    pub application_version_number: Hex<2>,
    pub risk_management_data: Hex<8>,
    pub terminal_type: Hex<1>,
    pub additional_terminal_capabilities: Hex<5>,
    pub card_data_input_capability: Hex<1>,
    pub cvm_capability_required: Hex<1>,
    pub cvm_capability_not_required: Hex<1>,
    pub kernel_configuration: Hex<2>,
    pub security_capability: Hex<1>,
    pub terminal_action_code_denial: Hex<5>,
    pub terminal_action_code_online: Hex<5>,
    pub timeout_value: u16,
    pub message_hold_time: Hex<3>,
    pub hold_time_value: u8,
    pub kernel_reserved_tvr_mask: Hex<5>,
    pub message_identifiers_on_restart: HexList,
    pub default_iad_mac_offset: u8,
    pub discretionary_data_tag_list: HexList,
    #[serde(default)]
    pub tag_mapping_list: HexList,
    pub default_cdol1: Option<HexList>,
    /// `9F8203`: tags that the card is asked for; data envelopes by READ DATA.
    #[serde(default)]
    pub tags_to_read: HexList,
    /// `BF8104`: data envelopes with their values, one behind the other, for WRITE DATA.
    #[serde(default)]
    pub data_envelopes_to_write: HexList,
    #[serde(default)]
    pub revoked_certificates: Vec<RevokedProfile>,
    pub relay_resistance: RelayProfile,
}

/// An issuer certificate that is not trusted any more although it has not expired: an entry of the
/// revocation list (Book E annex B.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "RevokedCertificate documents them")]
pub struct RevokedProfile {
    pub rid: Hex<5>,
    pub ca_index: Hex<1>,
    pub serial: Hex<3>,
}

/// The relay check's limits, in 100 µs; the mismatch in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "RelayResistanceConfiguration documents them")]
pub struct RelayProfile {
    pub minimum_grace_period: u16,
    pub maximum_grace_period: u16,
    pub expected_command_time: u16,
    pub expected_response_time: u16,
    pub accuracy_threshold: u16,
    pub mismatch_threshold: u8,
}

/// What in a profile cannot work. `key` is the key as the file has it, with its table in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ProfileError {
    /// Which key.
    pub key: &'static str,
    /// What is wrong with it and what to write.
    pub problem: &'static str,
}

/// Bits that a CVM capability has: online PIN, signature, none, verified on the phone.
const CVM_BITS: u8 = 0x6C;
/// Types of Terminal Type `9F35` (Book 4 annex A1): the first digit is who runs it (a bank, a merchant, the
/// cardholder), the second where and how it asks; a cardholder's terminal is attended by nobody.
const TERMINAL_TYPES: [u8; 15] =
    [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x34, 0x35, 0x36];
/// Second digits of those that ask the issuer for every payment.
const ONLINE_ONLY: [u8; 2] = [0x1, 0x4];
/// Byte 1 of `9F8209`: certificates with RSA keys.
const RSA_CERTIFICATES: u8 = 0x20;

impl TerminalProfile {
    /// Checks what single values cannot say.
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn check(&self) -> Result<(), ProfileError> {
        let fails = |key, problem| Err(ProfileError { key, problem });
        if self.name.is_empty() {
            return fails("name", "give it a name");
        }
        if !(1..=999).contains(&self.country) {
            return fails("country", "write the country's three digits of ISO 3166-1, such as 276");
        }
        let names = || self.applications.iter().map(|HexList(name)| name);
        if !names().all(|name| (5..=16).contains(&name.len())) {
            return fails("applications", "an application identifier has 5 to 16 bytes");
        }
        if names().collect::<BTreeSet<_>>().len() != self.applications.len() {
            return fails("applications", "an application is named twice: remove one");
        }
        self.limits.check()?;
        self.check_revoked_certificates()?;
        self.kernel8.check()?;
        let Hex([terminal_type]) = self.kernel8.terminal_type;
        if ONLINE_ONLY.contains(&(terminal_type & 0x0F)) && self.limits.floor != 0 {
            return fails(
                "limits.floor",
                "a terminal of this terminal_type asks the issuer for every payment: write 0",
            );
        }
        Ok(())
    }

    /// An entry that could never match revokes nothing, although somebody meant it to.
    fn check_revoked_certificates(&self) -> Result<(), ProfileError> {
        let key = "kernel8.revoked_certificates";
        let list = &self.kernel8.revoked_certificates;
        let is_twice = |(at, entry)| list.iter().skip(at).skip(1).any(|other| other == entry);
        if list.iter().enumerate().any(is_twice) {
            return Err(ProfileError { key, problem: "a certificate is named twice: remove one" });
        }
        let takes = |entry: &RevokedProfile| {
            let mut names = self.applications.iter().map(|HexList(name)| name);
            names.any(|name| name.starts_with(&entry.rid.0))
        };
        if !self.applications.is_empty() && !list.iter().all(takes) {
            let problem =
                "no application of this profile begins with that rid: correct one of them";
            return Err(ProfileError { key, problem });
        }
        Ok(())
    }

    /// The configuration it describes, with `platform` as applications if it names none.
    ///
    /// # Errors
    /// [`ConfigurationError`] if an amount or a name cannot be; never after [`check`](Self::check),
    /// if `platform` has proper names.
    pub fn configuration(
        &self,
        platform: &[Vec<u8>],
        ca_public_keys: Vec<CaPublicKey>,
    ) -> Result<TerminalConfiguration, ConfigurationError> {
        let own: Vec<Vec<u8>> =
            self.applications.iter().map(|HexList(name)| name.clone()).collect();
        let names = if own.is_empty() { platform } else { &own };
        let applications = names.iter().map(|name| self.application(name));
        Ok(TerminalConfiguration {
            applications: applications.collect::<Result<_, _>>()?,
            ca_public_keys,
            merchant: None,
            language: self.language,
        })
    }

    fn application(&self, name: &[u8]) -> Result<Application, ConfigurationError> {
        let limits = &self.limits;
        let money = |minor| Money::new(minor, self.currency);
        Ok(Application {
            kernel: self.kernel(name)?,
            currency: self.currency,
            contactless_transaction_limit: limits.contactless_transaction.map(money),
            zero_amount_allowed: limits.zero_amount_allowed,
            status_check: limits.status_check,
            extended_selection: limits.extended_selection,
        })
    }

    fn kernel(&self, name: &[u8]) -> Result<KernelConfiguration, ConfigurationError> {
        let limit = Money::new(self.limits.verification, self.currency);
        let attended = KernelConfiguration::attended(name, self.country, limit)?;
        let profile = &self.kernel8;
        let [terminal_type] = profile.terminal_type.0;
        let [card_data_input_capability] = profile.card_data_input_capability.0;
        let [cvm_capability_required] = profile.cvm_capability_required.0;
        let [cvm_capability_not_required] = profile.cvm_capability_not_required.0;
        let [security_capability] = profile.security_capability.0;
        let revoked = profile.revoked_certificates.iter().copied().map(RevokedCertificate::from);
        Ok(KernelConfiguration {
            application_version_number: profile.application_version_number.0,
            terminal_risk_management_data: profile.risk_management_data.0,
            terminal_type,
            additional_terminal_capabilities: profile.additional_terminal_capabilities.0,
            card_data_input_capability,
            cvm_capability_required,
            cvm_capability_not_required,
            kernel_configuration: profile.kernel_configuration.0,
            security_capability,
            terminal_action_code_denial: profile.terminal_action_code_denial.0,
            terminal_action_code_online: profile.terminal_action_code_online.0,
            floor_limit: bcd_amount(self.limits.floor)?,
            timeout_value: profile.timeout_value,
            message_hold_time: profile.message_hold_time.0,
            hold_time_value: profile.hold_time_value,
            relay_resistance: profile.relay_resistance.into(),
            kernel_reserved_tvr_mask: profile.kernel_reserved_tvr_mask.0,
            message_identifiers_on_restart: profile.message_identifiers_on_restart.0.clone(),
            default_iad_mac_offset: profile.default_iad_mac_offset,
            discretionary_data_tag_list: profile.discretionary_data_tag_list.0.clone(),
            default_cdol1: profile.default_cdol1.as_ref().map(|HexList(list)| list.clone()),
            tag_mapping_list: profile.tag_mapping_list.0.clone(),
            revoked_certificates: revoked.collect(),
            others: terminal_data(profile.data_storage().map(|(_, tag, list)| (tag, list)))?,
            ..attended
        })
    }
}

impl Limits {
    fn check(&self) -> Result<(), ProfileError> {
        let problem = "write minor units from 0 to 999999999999, without a decimal point";
        let amounts = [
            ("limits.contactless_transaction", self.contactless_transaction.unwrap_or(0)),
            ("limits.floor", self.floor),
            ("limits.verification", self.verification),
        ];
        let wrong = amounts.into_iter().find(|(_, minor)| bcd_amount(*minor).is_err());
        wrong.map_or(Ok(()), |(key, _)| Err(ProfileError { key, problem }))
    }
}

impl KernelProfile {
    /// What every card is asked to give and to keep, by key; without what is left empty.
    fn data_storage(&self) -> impl Iterator<Item = (&'static str, Tag, &[u8])> {
        let lists = [
            ("kernel8.tags_to_read", tags::TAGS_TO_READ, &self.tags_to_read),
            (
                "kernel8.data_envelopes_to_write",
                tags::DATA_ENVELOPES_TO_WRITE,
                &self.data_envelopes_to_write,
            ),
        ];
        let lists = lists.into_iter().map(|(key, tag, HexList(list))| (key, tag, list.as_slice()));
        lists.filter(|(_, _, list)| !list.is_empty())
    }

    fn check(&self) -> Result<(), ProfileError> {
        let fails = |key, problem| Err(ProfileError { key, problem });
        let [first, _] = self.kernel_configuration.0;
        if first & RSA_CERTIFICATES != 0 {
            return fails(
                "kernel8.kernel_configuration",
                "certificates with RSA keys (bit 20 of the first byte) are not supported: clear it",
            );
        }
        let Hex([terminal_type]) = self.terminal_type;
        if !TERMINAL_TYPES.contains(&terminal_type) {
            return fails(
                "kernel8.terminal_type",
                "write a type of Book 4 annex A1: 11 to 16, 21 to 26 or 34 to 36, such as 21 for a till with \
                 a cashier that always asks the issuer",
            );
        }
        let capabilities = [
            ("kernel8.cvm_capability_required", self.cvm_capability_required),
            ("kernel8.cvm_capability_not_required", self.cvm_capability_not_required),
        ];
        for (key, Hex([byte])) in capabilities {
            if byte & !CVM_BITS != 0 {
                return fails(
                    key,
                    "it has the bits 40, 20, 08 and 04 only: online PIN, signature, none, phone",
                );
            }
            // Whatever the card decided would count as a failed verification.
            if byte == 0 {
                return fails(
                    key,
                    "offer at least one way: 40 online PIN, 20 signature, 08 none, 04 phone",
                );
            }
        }
        let is_digit_pair = |byte: &u8| byte >> 4 <= 9 && byte & 0x0F <= 9;
        if !self.message_hold_time.0.iter().all(is_digit_pair) {
            return fails("kernel8.message_hold_time", "write six decimal digits, in 100 ms");
        }
        if self.timeout_value == 0 {
            return fails("kernel8.timeout_value", "no card answers in no time: write ms");
        }
        if parse_tag_list(&self.discretionary_data_tag_list.0).is_err() {
            return fails("kernel8.discretionary_data_tag_list", "it ends inside a tag");
        }
        let mapping = parse_tag_list(&self.tag_mapping_list.0);
        if !mapping.is_ok_and(|tags| tags.len().is_multiple_of(2)) {
            return fails("kernel8.tag_mapping_list", "write pairs of tags");
        }
        let cdol1 = self.default_cdol1.as_ref().map(|HexList(list)| DataObjectList::parse(list));
        if cdol1.is_some_and(|list| list.is_err()) {
            return fails("kernel8.default_cdol1", "it is no list of tags with their lengths");
        }
        let mut lists = self.data_storage();
        if let Some((key, ..)) =
            lists.find(|(_, tag, list)| terminal_data([(*tag, *list)]).is_err())
        {
            return fails(
                key,
                "write tags to read, and envelopes 9F8111 to 9F811A with their values",
            );
        }
        if self.relay_resistance.mismatch_threshold > 100 {
            return fails("kernel8.relay_resistance.mismatch_threshold", "it is a percentage");
        }
        Ok(())
    }
}

impl From<RevokedProfile> for RevokedCertificate {
    fn from(profile: RevokedProfile) -> Self {
        let [ca_index] = profile.ca_index.0;
        Self { rid: profile.rid.0, ca_index, serial: profile.serial.0 }
    }
}

impl From<RelayProfile> for RelayResistanceConfiguration {
    fn from(profile: RelayProfile) -> Self {
        Self {
            minimum_grace_period: profile.minimum_grace_period,
            maximum_grace_period: profile.maximum_grace_period,
            expected_command_time: profile.expected_command_time,
            expected_response_time: profile.expected_response_time,
            accuracy_threshold: profile.accuracy_threshold,
            mismatch_threshold: profile.mismatch_threshold,
        }
    }
}
