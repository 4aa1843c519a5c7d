//! A kernel in a few lines, written from the specification and not from the terminal crate: it taps,
//! checks everything a terminal checks, and recomputes the cryptogram as the issuer would.

use tapfer_emv::certificate::{IccCertificate, IssuerCertificate};
use tapfer_emv::channel::{IadMacInput, SecureChannel};
use tapfer_emv::cryptogram::{self, CryptogramInput, application_cryptogram};
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::iad::IssuerApplicationData;
use tapfer_emv::keys::KeyClass;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_payment_types::Timestamp;

use crate::issuer::{AID, Issuer};
use crate::proving_terminal::ProvingTerminal;
use crate::random::TestRng;

pub const ASK_ONLINE: u8 = 0x80;
pub const ASK_DECLINE: u8 = 0x00;

/// What a terminal wants to be paid.
#[derive(Clone, Copy)]
pub struct Purchase {
    pub minor: u32,
    pub currency: [u8; 2],
    pub ask: u8,
}

impl Purchase {
    pub const fn euros(minor: u32) -> Self {
        Self { minor, currency: [0x09, 0x78], ask: ASK_ONLINE }
    }

    /// Amount as `9F02`: twelve digits.
    pub fn amount(&self) -> [u8; 6] {
        let digits = format!("{:012}", self.minor);
        let pair =
            |position: usize| u8::from_str_radix(&digits[position..position + 2], 16).unwrap();
        std::array::from_fn(|index| pair(index * 2))
    }
}

/// What came out of a tap whose checks all held.
#[derive(Debug)]
pub struct Tap {
    pub cryptogram_information: u8,
    pub counter: u16,
    pub verification: u8,
    pub data: IssuerApplicationData,
    /// What the cryptogram covers, and the cryptogram: as a listener hears them.
    pub input: CryptogramInput,
    pub cryptogram: [u8; 8],
    /// Whether the issuer comes to the same cryptogram: not so if the PIN was wrong.
    pub is_right: bool,
    /// What the card wants next, `9F8108`.
    pub restart: Option<Vec<u8>>,
    /// What was in the envelopes that were read.
    pub read: Vec<Vec<u8>>,
}

/// How a tap can end before its cryptogram.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The card did not answer any more.
    Torn,
    /// The card answered this command (by instruction) with a status word.
    Refused(u8, [u8; 2]),
}

pub struct Kernel<'a> {
    pub issuer: &'a Issuer,
    pub now: Timestamp,
    pub seed: u64,
    /// How often the relay check is made with a card that supports it.
    pub relay_exchanges: usize,
    /// Who proves what it asks for.
    pub terminal: Option<&'a ProvingTerminal>,
    /// Numbers of the data envelopes to read.
    pub reads: Vec<u8>,
    /// Data envelopes to write.
    pub writes: Vec<(u8, Vec<u8>)>,
}

pub fn command(class: u8, instruction: u8, p1: u8, p2: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![class, instruction, p1, p2];
    if !data.is_empty() {
        bytes.push(u8::try_from(data.len()).unwrap());
        bytes.extend_from_slice(data);
    }
    bytes.push(0x00);
    bytes
}

pub fn select(name: &[u8]) -> Vec<u8> {
    command(0x00, 0xA4, 0x04, 0x00, name)
}

/// Data of GET PROCESSING OPTIONS: template `83` around the values for the platform's PDOL.
pub fn options_data(kernel_key: &[u8; 64], purchase: &Purchase, number: [u8; 4]) -> Vec<u8> {
    options_with(kernel_key, purchase, number, &[0; 64])
}

/// GET PROCESSING OPTIONS with a merchant proof.
pub fn proven_options(
    kernel_key: &[u8; 64],
    purchase: &Purchase,
    number: [u8; 4],
    proof: &[u8; 64],
) -> Vec<u8> {
    command(0x80, 0xA8, 0x00, 0x00, &options_with(kernel_key, purchase, number, proof))
}

fn options_with(
    kernel_key: &[u8; 64],
    purchase: &Purchase,
    number: [u8; 4],
    proof: &[u8; 64],
) -> Vec<u8> {
    let qualifier = [0x02, 0x80, 0x00, 0x10, 0xFF, 0xFF, 0x00, 0x00];
    let values = [
        qualifier.as_slice(),
        kernel_key,
        &purchase.amount(),
        &[0; 6],
        &[0x02, 0x76],
        &purchase.currency,
        &[0x26, 0x11, 0x21],
        &[0x00],
        &number,
        b"T0000001",
        proof,
    ]
    .concat();
    tlv::encode(tags::COMMAND_TEMPLATE, &values)
}

/// Values for the platform's CDOL1.
pub fn cdol1_values(purchase: &Purchase, number: [u8; 4]) -> Vec<u8> {
    [
        purchase.amount().as_slice(),
        &[0; 6],
        &[0x02, 0x76],
        &[0x00, 0x00, 0x00, 0x80, 0x81],
        &purchase.currency,
        &[0x26, 0x11, 0x21],
        &[0x00],
        &number,
        &[0x22],
        &[0x1F, 0x00, 0x02],
        &[0x0C, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat()
}

/// P2 of a command behind which a WRITE DATA comes, or not.
fn follow(more: bool) -> u8 {
    if more { 0x80 } else { 0x00 }
}

fn find(bytes: &[u8], tag: Tag) -> Vec<u8> {
    tlv::find(bytes, tag).unwrap().unwrap_or_else(|| panic!("{tag} is missing")).to_vec()
}

fn inside(answer: &[u8], template: Tag) -> Vec<u8> {
    let outer = tlv::parse_one(answer).unwrap();
    assert_eq!(outer.tag, template);
    outer.value.to_vec()
}

impl<'a> Kernel<'a> {
    pub fn new(issuer: &'a Issuer, now: Timestamp, seed: u64) -> Self {
        let (terminal, reads, writes) = (None, Vec::new(), Vec::new());
        Self { issuer, now, seed, relay_exchanges: 1, terminal, reads, writes }
    }

    /// One whole tap.
    pub fn tap(
        &self,
        purchase: &Purchase,
        mut transmit: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Tap, Ended> {
        let mut send = |command: &[u8]| {
            let mut answer = transmit(command).ok_or(Ended::Torn)?;
            match answer.split_off(answer.len() - 2)[..] {
                [0x90, 0x00] => Ok(answer),
                [sw1, sw2] => Err(Ended::Refused(command[1], [sw1, sw2])),
                _ => unreachable!("split at two"),
            }
        };
        let directory = inside(&send(&select(b"2PAY.SYS.DDF01"))?, tags::FCI_TEMPLATE);
        let proprietary = find(&directory, tags::FCI_PROPRIETARY_TEMPLATE);
        let entries = find(&proprietary, tags::FCI_ISSUER_DISCRETIONARY_DATA);
        let entry = find(&entries, tags::DIRECTORY_ENTRY);
        assert_eq!(find(&entry, tags::KERNEL_IDENTIFIER), [0x08]);
        let aid = find(&entry, tags::APPLICATION_IDENTIFIER_CARD);
        assert_eq!(aid, AID);

        let fci = inside(&send(&select(&aid))?, tags::FCI_TEMPLATE);
        assert_eq!(find(&fci, tags::DF_NAME), aid);
        let proprietary = find(&fci, tags::FCI_PROPRIETARY_TEMPLATE);
        let pdol = find(&proprietary, tags::PDOL);
        let qualifier =
            find(&find(&proprietary, tags::FCI_ISSUER_DISCRETIONARY_DATA), tags::CARD_QUALIFIER);

        let mut rng = TestRng(self.seed);
        let kernel_key = PrivateKey::generate(&mut rng);
        let number = (self.seed as u32).to_be_bytes();
        let kernel_point = kernel_key.public_point();
        let mut proof = [0; 64];
        if let Some(terminal) = self.terminal {
            let credential = terminal.certificate.encode();
            let nonce = send(&command(0x80, 0x52, 0x00, 0x00, &credential))?.try_into().unwrap();
            proof = terminal.proof(nonce, kernel_point, purchase, number);
        }
        let data = options_with(&kernel_point, purchase, number, &proof);
        let pdol_values = inside(&data, tags::COMMAND_TEMPLATE);
        assert_eq!(DataObjectList::parse(&pdol).unwrap().value_length(), pdol_values.len());
        let options = send(&command(0x80, 0xA8, 0x00, 0x00, &data))?;
        let options = inside(&options, tags::RESPONSE_TEMPLATE_FORMAT_2);
        let aip: [u8; 2] =
            find(&options, tags::APPLICATION_INTERCHANGE_PROFILE).try_into().unwrap();
        let key_data: [u8; 64] = find(&options, tags::CARD_KEY_DATA).try_into().unwrap();
        let cdol1 = find(&options, tags::CDOL1);
        let (mut channel, factor) = SecureChannel::kernel(&kernel_key, &key_data).unwrap();

        let mut relay = None;
        if aip[1] & 0x01 != 0 {
            for _ in 0..self.relay_exchanges {
                let answer = send(&command(0x80, 0xEA, 0x00, 0x00, &number))?;
                let value: [u8; 10] =
                    answer.strip_prefix(&[0x80, 0x0A]).unwrap().try_into().unwrap();
                relay = Some((number, value));
            }
        }

        let (mut signed, mut all) = (Vec::new(), Vec::new());
        for entry in find(&options, tags::APPLICATION_FILE_LOCATOR).chunks(4) {
            for (position, number) in (entry[1]..=entry[2]).enumerate() {
                let answer = send(&command(0x00, 0xB2, number, entry[0] | 0b100, &[]))?;
                let template = tlv::parse_one(&answer).unwrap();
                let value = if template.tag == tags::ENCRYPTED_RECORD {
                    channel.decrypt_record(template.value).unwrap()
                } else {
                    assert_eq!(template.tag, tags::READ_RECORD_TEMPLATE);
                    template.value.to_vec()
                };
                if position < usize::from(entry[3]) {
                    signed.extend_from_slice(&value);
                }
                all.extend_from_slice(&value);
            }
        }

        let mut read = Vec::new();
        for number in &self.reads {
            let tag = [0x9F, 0x81, 0x10 + number];
            let answer = send(&command(0x84, 0x32, 0x00, 0x00, &tag))?;
            let plain = channel.open_read_data(&answer).unwrap();
            let envelope = tlv::parse_one(&plain).unwrap();
            assert_eq!(envelope.raw[..3], tag);
            read.push(envelope.value.to_vec());
        }

        // Book E 5: the chain from the CA, over the static data, to the key behind the channel.
        let mut extended = Vec::new();
        tlv::write(&mut extended, tags::APPLICATION_IDENTIFIER_TERMINAL, &aid);
        tlv::write(&mut extended, tags::PDOL, &pdol);
        tlv::write(&mut extended, tags::CARD_QUALIFIER, &qualifier);
        tlv::write(&mut extended, tags::CDOL1, &cdol1);
        let sda_hash = tapfer_emv::certificate::sda_hash(&[&signed], &extended, aip);
        assert_eq!(find(&all, tags::CA_PUBLIC_KEY_INDEX), [self.issuer.ca.index]);
        let issuer = IssuerCertificate::parse(&find(&all, tags::ISSUER_CERTIFICATE)).unwrap();
        issuer.verify(&self.issuer.ca, self.now).unwrap();
        let icc = IccCertificate::parse(&find(&all, tags::ICC_CERTIFICATE)).unwrap();
        icc.verify(&issuer.public_key, &sda_hash, self.now).unwrap();
        factor.check(&icc.public_key).unwrap();

        let cdol1_values = cdol1_values(purchase, number);
        let answer = send(&command(
            0x80,
            0xAE,
            purchase.ask,
            follow(!self.writes.is_empty()),
            &cdol1_values,
        ))?;
        let answer = inside(&answer, tags::RESPONSE_TEMPLATE_FORMAT_2);
        let covered: Vec<u8> = tlv::parse(&answer)
            .unwrap()
            .iter()
            .filter(|tlv| ![tags::APPLICATION_CRYPTOGRAM, tags::EDA_MAC].contains(&tlv.tag))
            .flat_map(|tlv| tlv.raw.to_vec())
            .collect();
        let iad_mac = channel.iad_mac(&IadMacInput {
            pdol_values: &pdol_values,
            cdol1_values: &cdol1_values,
            relay_resistance: relay.as_ref().map(|(entropy, answer)| (entropy, answer)),
            generate_ac_tlvs: &covered,
            sda_hash: &sda_hash,
        });
        let cryptogram: [u8; 8] = find(&answer, tags::APPLICATION_CRYPTOGRAM).try_into().unwrap();
        assert_eq!(find(&answer, tags::EDA_MAC), channel.eda_mac(&cryptogram, &iad_mac));

        let offset = usize::from(find(&all, tags::IAD_MAC_OFFSET)[0]);
        let mut iad = find(&answer, tags::ISSUER_APPLICATION_DATA);
        iad[offset..offset + 8].copy_from_slice(&iad_mac);
        let counter: [u8; 2] =
            find(&answer, tags::APPLICATION_TRANSACTION_COUNTER).try_into().unwrap();
        let counter = u16::from_be_bytes(counter);
        let data = IssuerApplicationData::parse(&iad).unwrap();
        let input = CryptogramInput {
            amount_authorized: purchase.amount(),
            amount_other: [0; 6],
            terminal_country: [0x02, 0x76],
            tvr: [0x00, 0x00, 0x00, 0x80, 0x81],
            currency: purchase.currency,
            date: [0x26, 0x11, 0x21],
            transaction_type: 0x00,
            unpredictable_number: number,
            aip,
            application_transaction_counter: counter,
            issuer_application_data: iad,
        };
        let class = data.results.key_class;
        let key = self.issuer.key_of(class, data.key_index).session_key(counter);
        let proof = cryptogram::verify(self.issuer.token, &input, &cryptogram, |bytes| {
            application_cryptogram(&key, bytes)
        });
        let is_right = proof.is_ok();
        assert!(is_right || class == KeyClass::Verified, "only a wrong PIN makes a wrong one");
        let mut writes = self.writes.iter().peekable();
        while let Some((number, content)) = writes.next() {
            let tag = Tag::new(0x9F_8110 + u32::from(*number));
            let (message, mac) = channel.encrypt_write_data(&tlv::encode(tag, content)).unwrap();
            let more = follow(writes.peek().is_some());
            let answer = send(&command(0x84, 0x34, 0x00, more, &message))?;
            channel.check_write_data_answer(&mac, &answer).unwrap();
        }
        Ok(Tap {
            read,
            restart: tlv::find(&answer, tags::RESTART_INDICATOR).unwrap().map(<[u8]>::to_vec),
            cryptogram_information: find(&answer, tags::CRYPTOGRAM_INFORMATION_DATA)[0],
            counter,
            verification: find(&answer, tags::CARDHOLDER_VERIFICATION_DECISION)[0],
            data,
            input,
            cryptogram,
            is_right,
        })
    }
}
