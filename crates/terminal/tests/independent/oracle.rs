//! What has to come of a transaction, by the rules of Book C-8 as public material gives them: written
//! down a second time, without the kernel's code, as numbers and bytes.

use std::collections::BTreeMap;

use tapfer_emv::tags;
use tapfer_emv::tlv;

use super::{AID, Behaviour, Fault};
use crate::scripted::Script;

/// Configuration and session of a terminal, and how long a command takes, in 100 µs.
#[derive(Debug, Clone)]
pub(crate) struct TerminalSide {
    pub(crate) config: BTreeMap<u32, Vec<u8>>,
    pub(crate) session: BTreeMap<u32, Vec<u8>>,
    pub(crate) elapsed: u64,
}

impl TerminalSide {
    /// As the file has it.
    pub(crate) fn of(script: &Script) -> Self {
        let numbered = |of| {
            let objects = script.objects(of).into_iter();
            objects.map(|(tag, value)| (tag.number(), value)).collect()
        };
        Self { config: numbered("config"), session: numbered("session"), elapsed: 50 }
    }

    /// With the relay check on, two envelopes to read and two to write.
    pub(crate) fn with_everything(script: &Script) -> Self {
        let mut terminal = Self::of(script);
        terminal.config.insert(0x9F_8209, vec![0x18, 0x00]);
        terminal.session.insert(0x9F_8203, vec![0x9F, 0x81, 0x11, 0x9F, 0x81, 0x12]);
        let envelopes = [(tags::DATA_ENVELOPE_3, &b"stamp"[..]), (tags::DATA_ENVELOPE_4, b"more")];
        let written = envelopes.map(|(tag, value)| tlv::encode(tag, value)).concat();
        terminal.session.insert(0xBF_8104, written);
        terminal
    }

    pub(crate) fn get(&self, tag: u32) -> &[u8] {
        let value = self.session.get(&tag).or_else(|| self.config.get(&tag));
        value.map_or(&[], Vec::as_slice)
    }

    fn number(&self, tag: u32) -> u64 {
        number(self.get(tag))
    }
}

/// What the kernel has to say. Bytes as they are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) parameters: Vec<u8>,
    pub(crate) ui: Option<Vec<u8>>,
    pub(crate) ui_on_restart: Option<Vec<u8>>,
    pub(crate) error: Vec<u8>,
    pub(crate) tvr: Option<u64>,
    pub(crate) cvm_results: Option<Vec<u8>>,
    pub(crate) read_data: Option<Vec<u8>>,
    pub(crate) write_data: Option<Vec<u8>>,
    pub(crate) time_excess: Option<u64>,
    /// P1 and P2 of GENERATE AC, if it came to that.
    pub(crate) asked_for: Option<[u8; 2]>,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const AUTHENTICATION_NOT_PERFORMED: u64 = 0x80 << 32;
const AUTHENTICATION_FAILED: u64 = 0x04 << 32;
const VERIFICATION_FAILED: u64 = 0x80 << 16;
const ONLINE_PIN: u64 = 0x04 << 16;
const FLOOR_LIMIT: u64 = 0x80 << 8;
const KERNEL_8: u64 = 0x80;
const AID_MISMATCH: u64 = 0x40;
const RELAY_THRESHOLD: u64 = 0x08;
const RELAY_LIMITS: u64 = 0x04;
const RELAY_PERFORMED: u64 = 0x02;
const RELAY_NOT_PERFORMED: u64 = 0x01;

const DECLINE: u8 = 0x00;
const APPROVE: u8 = 0x40;
const ONLINE: u8 = 0x80;

/// On the way to an outcome.
struct Course<'a> {
    terminal: &'a TerminalSide,
    card: &'a Behaviour,
    parameters: [u8; 8],
    tvr: u64,
    cvm_results: [u8; 3],
    read_data: u8,
    write_data: u8,
    counters_apart: bool,
    time_excess: u64,
    accepted: bool,
    asked_for: Option<[u8; 2]>,
}

/// The outcome of this card at this terminal.
pub(crate) fn expect(terminal: &TerminalSide, card: &Behaviour) -> Expected {
    let course = Course {
        terminal,
        card,
        parameters: [0xF0, 0xF0, 0xF0, 0xF0, 0x10, 0xF0, 0xFF, 0x00],
        tvr: 0,
        cvm_results: [0; 3],
        read_data: 0x80,
        write_data: 0x00,
        counters_apart: false,
        time_excess: 0,
        accepted: false,
        asked_for: None,
    };
    course.run()
}

impl Course<'_> {
    fn has(&self, fault: Fault) -> bool {
        self.card.has(fault)
    }

    fn run(mut self) -> Expected {
        if self.has(Fault::FciTemplate) {
            return self.select_next(0x04, [0, 0]);
        }
        if self.card.has_any(&[Fault::NoQualifier, Fault::VersionZero]) {
            return self.select_next(0x01, [0, 0]);
        }
        self.accepted = true;
        self.tvr = KERNEL_8;
        if self.card.field_off_detection {
            self.parameters[6] = self.terminal.get(0x9F_8212)[0];
        }
        if self.terminal.get(0x9F_8209)[0] & 0x20 != 0 {
            return self.silent([0, 0x0F, 0, 0, 0, 0x1C]);
        }
        if self.has(Fault::NoSuite) {
            return self.error(0x06, [0, 0]);
        }
        if self.has(Fault::OptionsStatus) {
            self.parameters[6] = 0xFF;
            return self.select_next(0x03, [0x69, 0x85]);
        }
        self.after_options()
    }

    fn after_options(mut self) -> Expected {
        let malformed = [Fault::OptionsTemplate, Fault::OptionsWithTerminalTag];
        let short = self.has(Fault::ShortKeyData) && !self.has(Fault::NoKeyData);
        if self.card.has_any(&malformed) || short {
            return self.error(0x04, [0, 0]);
        }
        let no_list = self.has(Fault::NoCdol1) && self.terminal.get(0x9F_8220).is_empty();
        if no_list || self.card.has_any(&[Fault::NoAip, Fault::NoAfl, Fault::NoKeyData]) {
            return self.error(0x01, [0, 0]);
        }
        if self.card.has_any(&[Fault::LongKeyData, Fault::KeyDataOffCurve]) {
            return self.error(0x10, [0, 0]);
        }
        let checks_relay =
            self.terminal.get(0x9F_8209)[0] & 0x10 != 0 && self.card.aip[1] & 0x01 != 0;
        if checks_relay {
            if let Err((level2, status)) = self.relay() {
                return self.error(level2, status);
            }
        } else {
            self.tvr |= RELAY_NOT_PERFORMED;
        }
        self.records()
    }

    fn relay(&mut self) -> Result<(), (u8, [u8; 2])> {
        if self.has(Fault::RelayStatus) {
            return Err((0x03, [0x69, 0x85]));
        }
        if self.has(Fault::RelayShort) {
            return Err((0x04, [0, 0]));
        }
        let [minimum, maximum, estimate] = self.card.relay.map(u64::from);
        let terminals_estimate = self.terminal.number(0x9F_8216);
        let on_air = self.terminal.number(0x9F_8215) + estimate.min(terminals_estimate);
        let measured = self.terminal.elapsed.min(0xFFFF).saturating_sub(on_air);
        self.time_excess = measured.saturating_sub(maximum);
        if measured < minimum.saturating_sub(self.terminal.number(0x9F_8213)) {
            return Err((0x06, [0, 0]));
        }
        if measured > maximum + self.terminal.number(0x9F_8214) {
            self.tvr |= RELAY_LIMITS;
        }
        let percent = self.terminal.number(0x9F_8218);
        if estimate != 0
            && terminals_estimate != 0
            && (estimate * 100 / terminals_estimate < percent
                || terminals_estimate * 100 / estimate < percent
                || measured.saturating_sub(minimum) > self.terminal.number(0x9F_8217))
        {
            self.tvr |= RELAY_THRESHOLD;
        }
        self.tvr |= RELAY_PERFORMED;
        Ok(())
    }

    fn records(mut self) -> Expected {
        if self.has(Fault::BadAfl) {
            return self.error(0x04, [0, 0]);
        }
        if self.has(Fault::RecordStatus) {
            return self.error(0x03, [0x6A, 0x83]);
        }
        let contradicts = self.has(Fault::SecondPan) && !self.has(Fault::NoPan);
        let malformed = [Fault::RecordTemplate, Fault::RecordWithTerminalTag];
        if contradicts || self.card.has_any(&malformed) {
            return self.error(0x04, [0, 0]);
        }
        for tag in self.terminal.get(0x9F_8203).chunks(3) {
            let asked = tlv::Tag::new(u32::try_from(number(tag)).unwrap());
            let bad = [Fault::ReadStatus, Fault::ReadMac, Fault::ReadOtherTag];
            let has_it = self.card.envelopes.contains_key(&asked);
            if !has_it || self.card.has_any(&bad) {
                self.read_data = 0x00;
            }
            // The card counts an answer that the terminal does not take for one.
            self.counters_apart |=
                has_it && self.has(Fault::ReadMac) && !self.has(Fault::ReadStatus);
        }
        self.before_cryptogram()
    }

    fn before_cryptogram(mut self) -> Expected {
        let amount = self.terminal.get(0x9F02).to_vec();
        if amount.is_empty() || self.terminal.get(0x9A).is_empty() {
            return self.silent([0, 0, 0x03, 0, 0, 0xFF]);
        }
        let limit = self.terminal.get(0x9F_820E);
        let is_decimal = |value: &[u8]| value.iter().all(|b| b >> 4 <= 9 && b & 0x0F <= 9);
        if !is_decimal(&amount) || !is_decimal(limit) {
            return self.silent([0, 0x0F, 0, 0, 0, 0x1C]);
        }
        if number(&amount) > number(limit) {
            self.parameters[4] |= 0x08;
        }
        if number(&amount) > self.terminal.number(0x9F_820D) {
            self.tvr |= FLOOR_LIMIT;
        }
        if !self.card.name.starts_with(&AID) {
            self.tvr |= AID_MISMATCH;
        }
        if !self.authenticates() {
            self.tvr |= AUTHENTICATION_NOT_PERFORMED;
        }
        let more = if self.terminal.get(0xBF_8104).is_empty() { 0x00 } else { 0x80 };
        let p1 = self.analyse();
        self.asked_for = Some([p1, more]);
        self.after_cryptogram(p1)
    }

    fn authenticates(&self) -> bool {
        self.terminal.get(0x9F_820A)[0] & 0x10 != 0 && self.card.aip[0] & 0x01 != 0
    }

    fn analyse(&self) -> u8 {
        let card_is_online_only = self.card.aip[1] & 0x08 == 0;
        if self.tvr & self.terminal.number(0x9F_820B) != 0 {
            return DECLINE;
        }
        match self.terminal.get(0x9F35)[0] {
            0x11 | 0x21 | 0x14 | 0x24 | 0x34 => ONLINE,
            0x13 | 0x16 | 0x23 | 0x26 | 0x36 if card_is_online_only => DECLINE,
            0x13 | 0x16 | 0x23 | 0x26 | 0x36 => APPROVE,
            _ if card_is_online_only => ONLINE,
            _ if self.tvr & self.terminal.number(0x9F_820C) != 0 => ONLINE,
            _ => APPROVE,
        }
    }

    fn after_cryptogram(mut self, asked_for: u8) -> Expected {
        if self.has(Fault::GenerateStatus) {
            return self.error(0x03, [0x69, 0x85]);
        }
        if self.has(Fault::GenerateTemplate) {
            return self.error(0x04, [0, 0]);
        }
        let no_pan = self.has(Fault::NoPan) && !self.has(Fault::SecondPan);
        let mandatory =
            [Fault::NoCid, Fault::NoAtc, Fault::NoAc, Fault::NoIad, Fault::NoCvd, Fault::NoEdaMac];
        if no_pan || self.card.has_any(&mandatory) || self.card.iad_length == 0 {
            return self.error(0x01, [0, 0]);
        }
        if self.cannot_copy_mac() {
            return self.error(0x06, [0, 0]);
        }
        if self.authenticates() {
            match self.certificates_hold() {
                None => return self.error(0x06, [0, 0]),
                Some(true) => {}
                Some(false) => self.tvr |= AUTHENTICATION_FAILED,
            }
        }
        let changed = [Fault::Cryptogram, Fault::EdaMac, Fault::IadBit, Fault::RecordBit];
        if self.card.has_any(&changed) {
            return self.error(0x13, [0, 0]);
        }
        let cid = self.card.cid.unwrap_or(asked_for) & 0xC0;
        if !(cid == DECLINE || cid == asked_for || (cid == ONLINE && asked_for == APPROVE)) {
            return self.error(0x06, [0, 0]);
        }
        if let Some(card) = self.card.card_tvr {
            let mask = self.terminal.number(0x9F_821A);
            self.tvr = (self.tvr & mask) | (number(&card) & !mask);
        }
        self.verification();
        let decision = self.analyse();
        let can_write =
            !self.counters_apart && !self.card.has_any(&[Fault::WriteMac, Fault::WriteStatus]);
        if !self.terminal.get(0xBF_8104).is_empty() && can_write {
            self.write_data = 0x80;
        }
        self.conclude(cid, decision)
    }

    fn cannot_copy_mac(&self) -> bool {
        let offset = match self.card.aip[1] & 0x06 {
            0x02 => Some(usize::from(self.terminal.get(0x9F_821E)[0])),
            0x04 => self.card.iad_mac_offset.map(usize::from),
            _ => return false,
        };
        offset.is_none_or(|offset| offset + 8 > self.card.iad_length)
    }

    /// `None`: something is missing that had to be there.
    fn certificates_hold(&self) -> Option<bool> {
        if self.has(Fault::NoCaIndex) {
            return None;
        }
        if self.has(Fault::UnknownCaIndex) || !self.card.name.starts_with(&AID[..5]) {
            return Some(false);
        }
        if self.has(Fault::NoIssuerCertificate) {
            return None;
        }
        let issuer = [
            Fault::IssuerFormat,
            Fault::IssuerSuite,
            Fault::IssuerIdentifier,
            Fault::IssuerExpired,
            Fault::IssuerRid,
            Fault::IssuerCaIndex,
            Fault::IssuerSignature,
            Fault::IssuerLength,
            // Then the number is another issuer's.
            Fault::SecondPan,
        ];
        if self.card.has_any(&issuer) {
            return Some(false);
        }
        if self.has(Fault::NoIccCertificate) {
            return None;
        }
        let card = [
            Fault::IssuerKey,
            Fault::IccFormat,
            Fault::IccSuite,
            Fault::IccExpired,
            Fault::IccHashFormat,
            Fault::IccHash,
            Fault::IccKey,
            Fault::IccSignature,
            Fault::IccLength,
            Fault::BlindingFactor,
            Fault::RecordBit,
        ];
        Some(!self.card.has_any(&card))
    }

    fn verification(&mut self) {
        let limit = number(self.terminal.get(0x9F_820E));
        let is_above = self.terminal.number(0x9F02) > limit;
        let offered = self.terminal.get(if is_above { 0x9F_8207 } else { 0x9F_8208 })[0];
        let (byte, results) = match self.card.cvd {
            0x00 if offered & 0x08 != 0 => (0x00, [0x1F, 0x00, 0x02]),
            0x01 if offered & 0x20 != 0 => (0x10, [0x1E, 0x00, 0x00]),
            0x03 if offered & 0x04 != 0 => (0x30, [0x01, 0x00, 0x02]),
            0x0F => (0xF0, [0x3F, 0x00, 0x00]),
            0x02 if offered & 0x40 != 0 => {
                self.tvr |= ONLINE_PIN;
                (0x20, [0x02, 0x00, 0x00])
            }
            _ => {
                self.tvr |= VERIFICATION_FAILED;
                (0xF0, [0x3F, 0x00, 0x01])
            }
        };
        self.parameters[3] = byte;
        self.cvm_results = results;
    }

    fn conclude(mut self, cid: u8, decision: u8) -> Expected {
        if self.terminal.get(0x9F_8209)[0] & 0x08 == 0 {
            self.tvr &= !AUTHENTICATION_FAILED;
        }
        self.parameters[4] |= 0xA0;
        let restart = self.card.restart.clone().unwrap_or_default();
        let kind = restart.first().map(|first| first & 0xF0);
        let cards_message = restart
            .get(1)
            .copied()
            .filter(|id| *id != 0 && self.terminal.get(0x9F_821D).contains(id));
        let hold = self.terminal.get(0x9F_8211).to_vec();
        if kind == Some(0x20) {
            let message = cards_message.unwrap_or(0x21);
            self.parameters[0] = 0x40;
            self.parameters[1] = 0x10;
            self.parameters[4] |= 0x40;
            let again = self.request(message, 0x02, &[0; 3]);
            let now = self.request(message, 0x00, &hold);
            return Expected {
                ui_on_restart: Some(again),
                ..self.report(Some(now), [0, 0, 0, 0, 0, 0xFF])
            };
        }
        let (status, message, hold) = if cid == APPROVE && decision == APPROVE {
            (0x10, if self.parameters[3] == 0x10 { 0x1A } else { 0x03 }, hold)
        } else if (cid == ONLINE && decision != DECLINE) || (decision == ONLINE && cid != DECLINE) {
            (0x30, 0x1B, vec![0; 3])
        } else if ![0x00, 0x01, 0x09, 0x17].contains(&self.terminal.get(0x9C)[0]) {
            (0x40, 0x1E, vec![0; 3])
        } else if kind == Some(0x30) {
            if [0x1, 0x2, 0xF].contains(&(restart[0] & 0x0F)) {
                self.parameters[5] = restart[0] << 4;
            }
            (0x60, cards_message.unwrap_or(0x18), hold)
        } else {
            (0x20, cards_message.unwrap_or(0x07), hold)
        };
        self.parameters[0] = status;
        let ui = self.request(message, 0x00, &hold);
        self.report(Some(ui), [0, 0, 0, 0, 0, 0xFF])
    }

    fn request(&self, message: u8, status: u8, hold: &[u8]) -> Vec<u8> {
        let mut language = self.card.language.clone();
        language.resize(8, 0);
        [&[message, status][..], hold, &language].concat()
    }

    fn select_next(mut self, level2: u8, status: [u8; 2]) -> Expected {
        self.parameters[0] = 0x50;
        self.parameters[1] = 0x20;
        self.report(None, [0, level2, 0, status[0], status[1], 0xFF])
    }

    fn silent(mut self, error: [u8; 6]) -> Expected {
        self.parameters[0] = 0x40;
        self.report(None, error)
    }

    fn error(mut self, level2: u8, status: [u8; 2]) -> Expected {
        self.parameters[0] = 0x40;
        self.parameters[4] |= 0x80;
        let ui = self.request(0x1C, 0x00, self.terminal.get(0x9F_8211));
        self.report(Some(ui), [0, level2, 0, status[0], status[1], 0x1C])
    }

    fn report(self, ui: Option<Vec<u8>>, error: [u8; 6]) -> Expected {
        let accepted = self.accepted;
        Expected {
            parameters: self.parameters.to_vec(),
            ui,
            ui_on_restart: None,
            error: error.to_vec(),
            tvr: accepted.then_some(self.tvr),
            cvm_results: accepted.then(|| self.cvm_results.to_vec()),
            read_data: accepted.then(|| vec![self.read_data]),
            write_data: accepted.then(|| vec![self.write_data]),
            time_excess: accepted.then_some(self.time_excess),
            asked_for: self.asked_for,
        }
    }
}
