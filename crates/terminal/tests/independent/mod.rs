//! A card made of the facts of a whole transaction: keys, blinding factor, records. It computes every
//! answer itself, so that conditions can be mixed that no file has together.
#![allow(dead_code, reason = "not every test that shares this needs all of it")]

pub(crate) mod oracle;
pub(crate) mod seeded;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oracle::TerminalSide;
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::certificate::{self, CaPublicKey};
use tapfer_emv::channel::{IadMacInput, SecureChannel};
use tapfer_emv::cryptogram::application_cryptogram;
use tapfer_emv::curve::{PrivateKey, PublicPoint};
use tapfer_emv::ecsdsa;
use tapfer_emv::keys::TokenKey;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_terminal::kernel8::{
    Action, ErrorLevel1, Kernel, KernelConfiguration, Outcome, Session,
};

use crate::scripted::Script;

pub(crate) const PDOL: [u8; 15] =
    [0x9F, 0x2B, 8, 0x9E, 0x40, 0x9F, 0x02, 6, 0x9F, 0x37, 4, 0x9A, 3, 0x9C, 1];
/// The terminal's AID.
pub(crate) const AID: [u8; 6] = [0xF0, 0, 0, 0, 1, 1];
/// PDOL, card qualifier, CDOL1, label, the whole FCI, and one that nobody has.
const EXTENDED_SDA: [u8; 10] = [0x9F, 0x38, 0x9F, 0x2C, 0x8C, 0x50, 0x6F, 0xDF, 0x01, 0x84];
const RID: [u8; 5] = [0xF0, 0, 0, 0, 1];
const CA_INDEX: u8 = 0xE0;

/// What can be wrong with a card. Several can be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    NoQualifier,
    VersionZero,
    FciTemplate,
    NoSuite,
    OptionsStatus,
    OptionsTemplate,
    OptionsWithTerminalTag,
    NoAip,
    NoAfl,
    NoKeyData,
    NoCdol1,
    ShortKeyData,
    LongKeyData,
    KeyDataOffCurve,
    BadAfl,
    RelayStatus,
    RelayShort,
    RecordStatus,
    RecordTemplate,
    RecordWithTerminalTag,
    SecondPan,
    NoPan,
    ReadMac,
    ReadStatus,
    ReadOtherTag,
    GenerateStatus,
    GenerateTemplate,
    NoCid,
    NoAtc,
    NoAc,
    NoIad,
    NoCvd,
    NoEdaMac,
    NoCaIndex,
    UnknownCaIndex,
    NoIssuerCertificate,
    IssuerFormat,
    IssuerSuite,
    IssuerIdentifier,
    IssuerExpired,
    IssuerRid,
    IssuerCaIndex,
    IssuerKey,
    IssuerSignature,
    IssuerLength,
    NoIccCertificate,
    IccFormat,
    IccSuite,
    IccExpired,
    IccHashFormat,
    IccHash,
    IccKey,
    IccSignature,
    IccLength,
    BlindingFactor,
    RecordBit,
    IadBit,
    Cryptogram,
    EdaMac,
    WriteMac,
    WriteStatus,
}

/// How a card behaves.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub(crate) aip: [u8; 2],
    pub(crate) name: Vec<u8>,
    pub(crate) field_off_detection: bool,
    pub(crate) language: Vec<u8>,
    pub(crate) relay: [u16; 3],
    pub(crate) cvd: u8,
    /// `None`: what was asked for.
    pub(crate) cid: Option<u8>,
    pub(crate) card_tvr: Option<[u8; 5]>,
    pub(crate) restart: Option<Vec<u8>>,
    pub(crate) iad_length: usize,
    pub(crate) iad_mac_offset: Option<u8>,
    pub(crate) extended_sda: bool,
    pub(crate) envelopes: BTreeMap<Tag, Vec<u8>>,
    pub(crate) faults: BTreeSet<Fault>,
}

impl Behaviour {
    pub(crate) fn genuine() -> Self {
        Self {
            aip: [0x01, 0x04],
            name: AID.to_vec(),
            field_off_detection: false,
            language: Vec::new(),
            relay: [0, 100, 24],
            cvd: 0x03,
            cid: None,
            card_tvr: None,
            restart: None,
            iad_length: 32,
            iad_mac_offset: Some(10),
            extended_sda: false,
            envelopes: BTreeMap::new(),
            faults: BTreeSet::new(),
        }
    }

    /// A card that has the relay check and two envelopes.
    pub(crate) fn with_everything() -> Self {
        let envelopes =
            [(tags::DATA_ENVELOPE_1, vec![1; 9]), (tags::DATA_ENVELOPE_2, vec![2; 243])];
        Self { aip: [0x01, 0x05], envelopes: BTreeMap::from(envelopes), ..Self::genuine() }
    }

    pub(crate) fn with(fault: Fault) -> Self {
        Self { faults: BTreeSet::from([fault]), ..Self::genuine() }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    pub(crate) fn has_any(&self, faults: &[Fault]) -> bool {
        faults.iter().any(|fault| self.has(*fault))
    }
}

/// Keys and data of one transaction's card.
pub(crate) struct Card {
    issuer: PrivateKey,
    key: PrivateKey,
    blinding_factor: [u8; 32],
    master_key: [u8; 16],
    cdol1: Vec<u8>,
    /// The signed record in clear, with number and expiry.
    signed_record: Vec<u8>,
    behaviour: Behaviour,
    /// Answers READ RECORD, in order.
    records: Vec<Vec<u8>>,
    sda_hash: [u8; 32],
    pdol_values: Vec<u8>,
    relay: Option<([u8; 4], [u8; 10])>,
    channel: Option<SecureChannel>,
    /// Instruction, P1 and P2 of every command.
    pub(crate) heard: Vec<[u8; 3]>,
    /// The IAD as the issuer gets it, once GENERATE AC was answered.
    pub(crate) iad_with_mac: Vec<u8>,
    pub(crate) written: BTreeMap<Tag, Vec<u8>>,
}

/// The certification authority that signs for these cards.
pub(crate) fn authority() -> PrivateKey {
    PrivateKey::from_bytes(&[0x5A; 32]).unwrap()
}

pub(crate) fn authority_key() -> CaPublicKey {
    CaPublicKey { rid: RID, index: CA_INDEX, key: authority().public_x() }
}

fn object(tag: u32, value: &[u8]) -> Vec<u8> {
    tlv::encode(Tag::new(tag), value)
}

fn done(mut answer: Vec<u8>) -> Vec<u8> {
    answer.extend([0x90, 0x00]);
    answer
}

fn sign(key: &PrivateKey, message: &[u8]) -> [u8; 64] {
    ecsdsa::sign_with_nonce(key, message, &[0x33; 32]).unwrap()
}

/// Answers without their templates, so that one object can be left out.
fn list(objects: &[(u32, Option<Vec<u8>>)]) -> Vec<u8> {
    let present = objects.iter().filter_map(|(tag, value)| Some(object(*tag, value.as_ref()?)));
    present.flatten().collect()
}

impl Card {
    pub(crate) fn new(script: &Script, behaviour: Behaviour) -> Self {
        let key = |name| PrivateKey::from_bytes(&script.fact(name).unwrap()).unwrap();
        let mut channel = SecureChannel::from_session_keys(
            script.fact("skc").unwrap(),
            script.fact("ski").unwrap(),
            0x8001,
            0,
        );
        let records: Vec<Vec<u8>> = script
            .commands()
            .iter()
            .zip(script.responses())
            .filter(|(command, _)| command[1] == 0xB2)
            .map(|(_, answer)| answer[..answer.len() - 2].to_vec())
            .collect();
        let signed = tlv::parse_one(&records[1]).unwrap();
        let options = script.responses()[1].clone();
        let cdol1 =
            tlv::find_path(&options[..options.len() - 2], &[Tag::new(0x77), Tag::new(0x8C)]);
        let mut card = Self {
            issuer: key("issuer_private"),
            key: key("card_private"),
            blinding_factor: script.fact("blinding_factor").unwrap(),
            master_key: script.fact("card_master_key").unwrap(),
            cdol1: cdol1.unwrap().unwrap().to_vec(),
            signed_record: channel.decrypt_record(signed.value).unwrap(),
            behaviour,
            records: Vec::new(),
            sda_hash: [0; 32],
            pdol_values: Vec::new(),
            relay: None,
            channel: None,
            heard: Vec::new(),
            iad_with_mac: Vec::new(),
            written: BTreeMap::new(),
        };
        card.personalise();
        card
    }

    fn has(&self, fault: Fault) -> bool {
        self.behaviour.has(fault)
    }

    fn unless(&self, fault: Fault, value: Vec<u8>) -> Option<Vec<u8>> {
        (!self.has(fault)).then_some(value)
    }

    fn pan(&self) -> Vec<u8> {
        tlv::find(&self.signed_record, Tag::new(0x5A)).unwrap().unwrap().to_vec()
    }

    /// Records, hash and certificates, with what is wrong about them signed all the same.
    fn personalise(&mut self) {
        let pan = self.pan();
        let objects = tlv::parse(&self.signed_record).unwrap();
        let record: Vec<Vec<u8>> = objects
            .iter()
            .map(|one| match one.tag.number() {
                0x5A if self.has(Fault::NoPan) => Vec::new(),
                0x9F_8107 => self
                    .behaviour
                    .iad_mac_offset
                    .map_or_else(Vec::new, |offset| object(0x9F_8107, &[offset])),
                0x9F_810A if self.behaviour.extended_sda => object(0x9F_810A, &EXTENDED_SDA),
                _ => one.raw.to_vec(),
            })
            .collect();
        self.signed_record = record.concat();
        let card_tag = |tag: Tag| match tag.number() {
            0x9F06 => Some(AID.to_vec()),
            0x9F38 => Some(PDOL.to_vec()),
            0x9F2C => Some(self.qualifier()),
            0x8C => Some(self.cdol1.clone()),
            0x50 => Some(b"TEST".to_vec()),
            0x6F => Some(self.fci_value()),
            0x84 => Some(self.behaviour.name.clone()),
            _ => None,
        };
        let listed = tlv::find(&self.signed_record, Tag::new(0x9F_810A)).unwrap();
        let listed = tapfer_emv::dol::parse_tag_list(listed.unwrap_or_default()).unwrap();
        let extended = certificate::extended_data(listed, card_tag);
        self.sda_hash =
            certificate::sda_hash(&[&self.signed_record], &extended, self.behaviour.aip);
        self.records =
            vec![self.first_record(&pan), self.signed_record.clone(), self.third_record()];
    }

    fn first_record(&self, pan: &[u8]) -> Vec<u8> {
        let index = if self.has(Fault::UnknownCaIndex) { 0xEF } else { CA_INDEX };
        list(&[
            (0x8F, self.unless(Fault::NoCaIndex, vec![index])),
            (0x90, self.unless(Fault::NoIssuerCertificate, self.issuer_certificate(pan))),
            (0x9F02, self.has(Fault::RecordWithTerminalTag).then(|| vec![0; 6])),
        ])
    }

    fn third_record(&self) -> Vec<u8> {
        list(&[
            (0x9F46, self.unless(Fault::NoIccCertificate, self.icc_certificate())),
            (0x5A, self.has(Fault::SecondPan).then(|| vec![0x12, 0x34])),
        ])
    }

    fn issuer_certificate(&self, pan: &[u8]) -> Vec<u8> {
        let or = |fault, wrong: u8, right: u8| if self.has(fault) { wrong } else { right };
        let mut message = vec![or(Fault::IssuerFormat, 0x13, 0x12), 0x00];
        message.extend([pan[0], pan[1], or(Fault::IssuerIdentifier, pan[2] ^ 0x10, pan[2])]);
        message.extend([0xFF, 0xFF, or(Fault::IssuerSuite, 0x11, 0x10)]);
        message.extend([or(Fault::IssuerExpired, 0x19, 0x20), 0x30, 0x12, 0x31, 0, 0, 1]);
        message.extend([0xF0, 0, 0, 0, or(Fault::IssuerRid, 2, 1)]);
        message.push(or(Fault::IssuerCaIndex, 0xE1, CA_INDEX));
        let other = authority().public_x();
        let own = self.issuer.public_x();
        message.extend(if self.has(Fault::IssuerKey) { other.bytes() } else { own.bytes() });
        let mut signature = sign(&authority(), &message);
        signature[63] ^= or(Fault::IssuerSignature, 1, 0);
        message.extend(signature);
        message.extend(self.has(Fault::IssuerLength).then_some(0));
        message
    }

    fn icc_certificate(&self) -> Vec<u8> {
        let or = |fault, wrong: u8, right: u8| if self.has(fault) { wrong } else { right };
        let mut message = vec![or(Fault::IccFormat, 0x15, 0x14), 0x00, or(Fault::IccSuite, 1, 0)];
        message.extend([or(Fault::IccExpired, 0x19, 0x20), 0x27, 0x12, 0x31, 0x23, 0x59]);
        message.extend([0, 0, 0, 0, 0, 9, 0x01, or(Fault::IccHashFormat, 3, 2)]);
        let mut hash = self.sda_hash;
        hash[0] ^= or(Fault::IccHash, 1, 0);
        message.extend(hash);
        let other = authority().public_x();
        let own = self.key.public_x();
        message.extend(if self.has(Fault::IccKey) { other.bytes() } else { own.bytes() });
        let mut signature = sign(&self.issuer, &message);
        signature[0] ^= or(Fault::IccSignature, 1, 0);
        message.extend(signature);
        message.extend(self.has(Fault::IccLength).then_some(0));
        message
    }

    fn qualifier(&self) -> Vec<u8> {
        let version = if self.has(Fault::VersionZero) { 0 } else { 2 };
        let suite = if self.has(Fault::NoSuite) { 0x01 } else { 0x00 };
        let capabilities = if self.behaviour.field_off_detection { 0x80 } else { 0 };
        vec![version, suite, 0xFF, 0xFF, capabilities, 0, 0]
    }

    fn fci_value(&self) -> Vec<u8> {
        let qualifier = self.unless(Fault::NoQualifier, self.qualifier());
        let language = &self.behaviour.language;
        let proprietary = list(&[
            (0x50, Some(b"TEST".to_vec())),
            (0x9F38, Some(PDOL.to_vec())),
            (0x5F2D, (!language.is_empty()).then(|| language.clone())),
            (0xBF0C, qualifier.map(|qualifier| object(0x9F2C, &qualifier))),
        ]);
        list(&[(0x84, Some(self.behaviour.name.clone())), (0xA5, Some(proprietary))])
    }

    /// The data of the answer to SELECT.
    pub(crate) fn fci(&self) -> Vec<u8> {
        object(if self.has(Fault::FciTemplate) { 0x70 } else { 0x6F }, &self.fci_value())
    }

    /// The answer to any command of the kernel, with its status word.
    pub(crate) fn answer(&mut self, command: &CommandApdu) -> Vec<u8> {
        self.heard.push([command.instruction, command.p1, command.p2]);
        match command.instruction {
            0xA8 if self.has(Fault::OptionsStatus) => vec![0x69, 0x85],
            0xA8 => done(self.processing_options(command)),
            0xEA if self.has(Fault::RelayStatus) => vec![0x69, 0x85],
            0xEA => done(self.relay_answer(command)),
            0xB2 if self.has(Fault::RecordStatus) && command.p1 == 1 => vec![0x6A, 0x83],
            0xB2 if !(1..=self.records.len()).contains(&usize::from(command.p1)) => {
                vec![0x6A, 0x83]
            }
            0xB2 => done(self.record(command.p1)),
            0x32 => self.read_data(command),
            0xAE if self.has(Fault::GenerateStatus) => vec![0x69, 0x85],
            0xAE => done(self.generate_ac(command)),
            0x34 => self.write_data(command),
            _ => vec![0x6D, 0x00],
        }
    }

    fn processing_options(&mut self, command: &CommandApdu) -> Vec<u8> {
        self.pdol_values = command.data[2..].to_vec();
        let kernel: [u8; 64] = self.pdol_values[8..72].try_into().unwrap();
        let kernel = PublicPoint::from_bytes(&kernel).unwrap();
        let (channel, mut sent) =
            SecureChannel::card_with_blinding_factor(&self.key, &kernel, &self.blinding_factor)
                .unwrap();
        self.channel = Some(channel);
        if self.has(Fault::BlindingFactor) {
            sent[63] ^= 1;
        }
        if self.has(Fault::KeyDataOffCurve) {
            sent[..32].fill(0xFF);
        }
        let mut key_data = sent.to_vec();
        if self.has(Fault::LongKeyData) {
            key_data.extend([0; 68]);
        }
        if self.has(Fault::ShortKeyData) {
            key_data.truncate(63);
        }
        let locator = if self.has(Fault::BadAfl) { vec![0x10, 2, 1, 0] } else { AFL.to_vec() };
        let value = list(&[
            (0x82, self.unless(Fault::NoAip, self.behaviour.aip.to_vec())),
            (0x94, self.unless(Fault::NoAfl, locator)),
            (0x8C, self.unless(Fault::NoCdol1, self.cdol1.clone())),
            (0x9F_8103, self.unless(Fault::NoKeyData, key_data)),
            (0x9F1A, self.has(Fault::OptionsWithTerminalTag).then(|| vec![0, 1])),
        ]);
        object(if self.has(Fault::OptionsTemplate) { 0x70 } else { 0x77 }, &value)
    }

    fn relay_answer(&mut self, command: &CommandApdu) -> Vec<u8> {
        let [minimum, maximum, estimate] = self.behaviour.relay.map(u16::to_be_bytes);
        let value: Vec<u8> = [&[1, 2, 3, 4][..], &minimum, &maximum, &estimate].concat();
        let entropy = command.data.as_slice().try_into().unwrap();
        self.relay = Some((entropy, value.as_slice().try_into().unwrap()));
        let mut answer = object(0x80, &value);
        if self.has(Fault::RelayShort) {
            answer.pop();
        }
        answer
    }

    fn record(&mut self, number: u8) -> Vec<u8> {
        let content = self.records[usize::from(number) - 1].clone();
        if number == 1 {
            return object(0x70, &content);
        }
        let mut encrypted = self.channel.as_mut().unwrap().encrypt_record(&content).unwrap();
        if number == 2 && self.has(Fault::RecordBit) {
            *encrypted.last_mut().unwrap() ^= 1;
        }
        let is_wrong = number == 3 && self.has(Fault::RecordTemplate);
        object(if is_wrong { 0xDB } else { 0xDA }, &encrypted)
    }

    fn read_data(&mut self, command: &CommandApdu) -> Vec<u8> {
        let number = command.data.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let Some(content) = self.behaviour.envelopes.get(&Tag::new(number)).cloned() else {
            return vec![0x6A, 0x88];
        };
        if self.has(Fault::ReadStatus) {
            return vec![0x69, 0x85];
        }
        let named = if self.has(Fault::ReadOtherTag) { 0x9F_811A } else { number };
        let mut answer =
            self.channel.as_mut().unwrap().seal_read_data(&object(named, &content)).unwrap();
        if self.has(Fault::ReadMac) {
            *answer.last_mut().unwrap() ^= 1;
        }
        done(answer)
    }

    fn write_data(&mut self, command: &CommandApdu) -> Vec<u8> {
        if self.has(Fault::WriteStatus) {
            return vec![0x69, 0x85];
        }
        let channel = self.channel.as_mut().unwrap();
        let (plain, mut mac) = channel.decrypt_write_data(&command.data).unwrap();
        let envelope = tlv::parse_one(&plain).unwrap();
        self.written.insert(envelope.tag, envelope.value.to_vec());
        if self.has(Fault::WriteMac) {
            mac[7] ^= 1;
        }
        done(mac.to_vec())
    }

    fn generate_ac(&mut self, command: &CommandApdu) -> Vec<u8> {
        let behaviour = self.behaviour.clone();
        let mut iad = vec![0; behaviour.iad_length];
        iad.iter_mut().zip([0x01, 0x17]).for_each(|(to, from)| *to = from);
        let before = [
            (0x9F27, self.unless(Fault::NoCid, vec![behaviour.cid.unwrap_or(command.p1)])),
            (0x9F36, self.unless(Fault::NoAtc, vec![0, 1])),
        ];
        let behind = [
            (0x9F10, self.unless(Fault::NoIad, iad.clone())),
            (0x9F_8102, self.unless(Fault::NoCvd, vec![behaviour.cvd])),
            (0x9F_8104, behaviour.card_tvr.map(|tvr| tvr.to_vec())),
            (0x9F_8108, behaviour.restart.clone()),
        ];
        let channel = self.channel.as_ref().unwrap();
        let iad_mac = channel.iad_mac(&IadMacInput {
            pdol_values: &self.pdol_values,
            cdol1_values: &command.data,
            relay_resistance: self.relay.as_ref().map(|(entropy, value)| (entropy, value)),
            generate_ac_tlvs: &[list(&before), list(&behind)].concat(),
            sda_hash: &self.sda_hash,
        });
        let offset = match behaviour.aip[1] & 0x06 {
            0x02 => Some(10),
            0x04 => behaviour.iad_mac_offset.map(usize::from),
            _ => None,
        };
        if let Some(place) = offset.and_then(|start| iad.get_mut(start..start + 8)) {
            place.copy_from_slice(&iad_mac);
        }
        self.iad_with_mac.clone_from(&iad);
        let session_key = TokenKey::new(self.master_key).session_key(1);
        let input = [&command.data[..29], &behaviour.aip, &[0, 1], &iad].concat();
        let mut cryptogram = application_cryptogram(&session_key, &input);
        let mut eda_mac = channel.eda_mac(&cryptogram, &iad_mac);
        eda_mac[0] ^= u8::from(self.has(Fault::EdaMac));
        cryptogram[0] ^= u8::from(self.has(Fault::Cryptogram));
        let mut behind = behind;
        if let (true, Some(iad)) = (self.has(Fault::IadBit), &mut behind[0].1) {
            iad.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        }
        let value = [
            list(&before),
            list(&[(0x9F26, self.unless(Fault::NoAc, cryptogram.to_vec()))]),
            list(&behind),
            list(&[(0x9F_8105, self.unless(Fault::NoEdaMac, eda_mac.to_vec()))]),
        ]
        .concat();
        object(if self.has(Fault::GenerateTemplate) { 0x70 } else { 0x77 }, &value)
    }
}

/// The terminal and the card, and somebody between them who may change, keep back (`None`: the card is
/// gone) or leave alone what the card answers, by the number of the command from 0.
pub(crate) fn meet(
    script: &Script,
    terminal: &TerminalSide,
    card: &mut Card,
    mut meddle: impl FnMut(usize, &CommandApdu, Vec<u8>) -> Option<Vec<u8>>,
) -> Outcome {
    let objects = |of: &BTreeMap<u32, Vec<u8>>| {
        let objects = of.iter().map(|(tag, value)| (Tag::new(*tag), value.clone()));
        objects.collect::<Vec<_>>()
    };
    let all = [objects(&terminal.config), objects(&terminal.session)].concat();
    let all = all.iter().map(|(tag, value)| (*tag, value.as_slice()));
    let configuration = KernelConfiguration::from_data_objects(all).unwrap();
    let session = objects(&terminal.session);
    let session = session.iter().map(|(tag, value)| (*tag, value.as_slice()));
    let session = Session::from_data_objects(session).unwrap();
    let keys = vec![authority_key()];
    let mut kernel = Kernel::start(configuration, &session, keys, script.inputs(), &card.fci());
    let elapsed = Duration::from_micros(terminal.elapsed * 100);
    while let Action::Transmit(command) = kernel.poll() {
        let number = card.heard.len();
        assert!(number < 100, "the kernel does not come to an end");
        let answer = card.answer(command);
        kernel = match meddle(number, command, answer) {
            Some(answer) => kernel.handle_response(&answer, elapsed),
            None => kernel.handle_no_answer(ErrorLevel1::Timeout),
        };
    }
    kernel.into_outcome().unwrap()
}

/// Nobody between them.
pub(crate) fn untouched(_: usize, _: &CommandApdu, answer: Vec<u8>) -> Option<Vec<u8>> {
    Some(answer)
}

/// Record 1 in clear, 2 signed, 3 with the card's certificate.
const AFL: [u8; 12] = [0x10, 1, 1, 0, 0x10, 2, 2, 1, 0x10, 3, 3, 0];
