//! A profile as the message that carries it to the phone.

use alloc::string::String;
use alloc::vec::Vec;

use tapfer_payment_types::messages::{CardProfileMessage, HexBytes, RecordMessage};

use super::{CardProfile, ProfileError, Record};

impl From<&CardProfile> for CardProfileMessage {
    fn from(profile: &CardProfile) -> Self {
        Self {
            aid: HexBytes(profile.aid.clone()),
            // A checked profile has printable ASCII only, and then nothing is lost here.
            label: String::from_utf8_lossy(&profile.label).into_owned(),
            aip: HexBytes(profile.aip.to_vec()),
            pdol: HexBytes(profile.pdol.clone()),
            cdol1: HexBytes(profile.cdol1.clone()),
            records: profile.records.iter().map(record_message).collect(),
        }
    }
}

fn record_message(record: &Record) -> RecordMessage {
    RecordMessage {
        short_file_identifier: record.short_file_identifier,
        number: record.number,
        value: HexBytes(record.value.clone()),
        encrypted: record.encrypted,
        signed: record.signed,
    }
}

/// Checks everything: the message comes from outside.
impl TryFrom<&CardProfileMessage> for CardProfile {
    type Error = ProfileError;

    fn try_from(message: &CardProfileMessage) -> Result<Self, ProfileError> {
        let aip = message.aip.0.as_slice().try_into();
        let profile = Self {
            aid: message.aid.0.clone(),
            label: message.label.as_bytes().to_vec(),
            aip: aip.map_err(|_| ProfileError::InterchangeProfile)?,
            pdol: message.pdol.0.clone(),
            cdol1: message.cdol1.0.clone(),
            records: message.records.iter().map(record).collect::<Vec<_>>(),
        };
        profile.check()?;
        Ok(profile)
    }
}

fn record(message: &RecordMessage) -> Record {
    Record {
        short_file_identifier: message.short_file_identifier,
        number: message.number,
        value: message.value.0.clone(),
        encrypted: message.encrypted,
        signed: message.signed,
    }
}
