//! A maker of phones: chains as phones send them.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    PublicKeyData as _, SerialNumber, date_time_ymd,
};

const DESCRIPTION_OID: [u64; 10] = [1, 3, 6, 1, 4, 1, 11_129, 2, 1, 17];
pub(crate) const PACKAGE: &[u8] = b"org.example.wallet";

fn der(tag: &[u8], content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..=127 => vec![short as u8],
        long @ 128..=255 => vec![0x81, long as u8],
        long => vec![0x82, (long >> 8) as u8, long as u8],
    };
    [tag, &length, content].concat()
}

/// An explicit context tag above 30, in its long form.
fn context(number: u32, content: &[u8]) -> Vec<u8> {
    der(&[0xBF, 0x80 | (number >> 7) as u8, (number & 0x7F) as u8], content)
}

fn integer(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    der(&[0x02], &[&[0], bytes.as_slice()].concat()[leading_zeros(&bytes)..])
}

/// How many of the bytes in front an integer does not need: it stays positive.
fn leading_zeros(bytes: &[u8; 4]) -> usize {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(3);
    if bytes[zeros] & 0x80 == 0 { zeros + 1 } else { zeros }
}

/// What a phone's hardware says; the tests change one thing each.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) version: u32,
    pub(crate) level: u8,
    pub(crate) challenge: Vec<u8>,
    pub(crate) origin: u32,
    pub(crate) locked: bool,
    pub(crate) boot: u8,
    pub(crate) root_of_trust_in_hardware_list: bool,
}

impl Default for Statement {
    fn default() -> Self {
        Self {
            version: 300,
            level: 1,
            challenge: b"a question asked once".to_vec(),
            origin: 0,
            locked: true,
            boot: 0,
            root_of_trust_in_hardware_list: true,
        }
    }
}

impl Statement {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let locked = if self.locked { 0xFF } else { 0 };
        let parts = [der(&[4], &[7; 32]), der(&[1], &[locked]), der(&[10], &[self.boot])];
        let root_of_trust = context(704, &der(&[0x30], &parts.concat()));
        let package = [der(&[4], PACKAGE), integer(7)].concat();
        let packages = der(&[0x31], &der(&[0x30], &package));
        let digests = der(&[0x31], &der(&[4], &[0xD1; 32]));
        let application = der(&[4], &der(&[0x30], &[packages, digests].concat()));
        let mut software = context(709, &application);
        let mut hardware =
            [context(702, &integer(self.origin)), context(706, &integer(202_605))].concat();
        if self.root_of_trust_in_hardware_list {
            hardware.splice(7..7, root_of_trust);
        } else {
            software.splice(0..0, root_of_trust);
        }
        let fields = [
            integer(self.version),
            der(&[10], &[self.level]),
            integer(self.version),
            der(&[10], &[self.level]),
            der(&[4], &self.challenge),
            der(&[4], &[]),
            der(&[0x30], &software),
            der(&[0x30], &hardware),
        ];
        der(&[0x30], &fields.concat())
    }
}

pub(crate) fn params(name: &str, serial: u8, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(vec![serial, 0x01]));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

pub(crate) fn with_description(
    mut params: CertificateParams,
    statement: &Statement,
) -> CertificateParams {
    let content = statement.encode();
    params.custom_extensions.push(CustomExtension::from_oid_content(&DESCRIPTION_OID, content));
    params
}

/// A maker's root and intermediate, and a phone's certificate below them.
pub(crate) struct Maker {
    root: KeyPair,
    root_der: Vec<u8>,
    intermediate_key: KeyPair,
    intermediate: CertificateParams,
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self::with_intermediate(params("Maker Intermediate", 2, true))
    }

    pub(crate) fn with_intermediate(intermediate: CertificateParams) -> Self {
        Self::with(params("Maker Root", 1, true), intermediate)
    }

    pub(crate) fn with(own: CertificateParams, intermediate: CertificateParams) -> Self {
        let root = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let root_der = own.self_signed(&root).unwrap().der().to_vec();
        Self { root, root_der, intermediate_key: KeyPair::generate().unwrap(), intermediate }
    }

    pub(crate) fn chain(&self, leaf: &CertificateParams) -> Vec<Vec<u8>> {
        self.chain_for(leaf, &KeyPair::generate().unwrap())
    }

    pub(crate) fn chain_for(&self, leaf: &CertificateParams, key: &KeyPair) -> Vec<Vec<u8>> {
        let root = Issuer::new(params("Maker Root", 1, true), &self.root);
        let between = self.intermediate.signed_by(&self.intermediate_key, &root).unwrap();
        let issuer = Issuer::new(self.intermediate.clone(), &self.intermediate_key);
        let leaf = leaf.signed_by(key, &issuer).unwrap();
        vec![leaf.der().to_vec(), between.der().to_vec(), self.root_der.clone()]
    }

    pub(crate) fn root_key(&self) -> Vec<u8> {
        self.root.subject_public_key_info()
    }
}

pub(crate) fn leaf(statement: &Statement) -> CertificateParams {
    with_description(params("Android Keystore Key", 3, false), statement)
}
