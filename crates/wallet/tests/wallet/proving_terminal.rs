//! A terminal with a certificate of the merchant CA, which proves what it asks for.

use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::merchant::{
    MerchantCertificate, MerchantPrivateKey, MerchantProofInput, MerchantSigner,
};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::{HexBytes, MerchantTrust};

use crate::issuer::{Issuer, now};
use crate::kernel::Purchase;

pub const TERMINAL: [u8; 8] = *b"T0000001";
pub const SHOP: &str = "Café Müller";
pub const SERIAL: [u8; 6] = [0, 0, 0, 0, 0, 1];

pub struct ProvingTerminal {
    pub certificate: MerchantCertificate,
    pub key: MerchantPrivateKey,
}

pub fn merchant_ca() -> MerchantPrivateKey {
    MerchantPrivateKey::from_bytes(&[0x51; 32]).unwrap()
}

/// An issuer whose phones believe the merchant CA.
pub fn trusting_issuer() -> Issuer {
    let authorities = vec![HexBytes(merchant_ca().public_key().bytes().to_vec())];
    let mut issuer = Issuer::new();
    issuer.merchant_trust = MerchantTrust { authorities, revoked_serials: Vec::new() };
    issuer
}

impl ProvingTerminal {
    /// A terminal with a certificate for a day.
    pub fn new() -> Self {
        Self::certified_by(&merchant_ca(), "M00000000000042", 0x61, now().plus_seconds(86_400))
    }

    /// A terminal of another merchant.
    pub fn of_another_merchant() -> Self {
        Self::certified_by(&merchant_ca(), "M00000000000666", 0x62, now().plus_seconds(86_400))
    }

    /// Another number for its certificate.
    pub fn numbered(mut self, ca: &MerchantPrivateKey, serial: [u8; 6]) -> Self {
        self.certificate.serial = serial;
        self.certificate.signature = ca.sign(&self.certificate.message()).unwrap();
        self
    }

    pub fn certified_by(
        ca: &MerchantPrivateKey,
        merchant: &str,
        key: u8,
        expiry: Timestamp,
    ) -> Self {
        let key = MerchantPrivateKey::from_bytes(&[key; 32]).unwrap();
        let calendar = expiry.calendar();
        let mut certificate = MerchantCertificate {
            acquirer: [0, 0, 0, 0x12, 0x34, 0x56],
            merchant: merchant.as_bytes().try_into().unwrap(),
            terminal: TERMINAL,
            expiry: CertificateDate::of(expiry),
            hour: calendar.hour,
            minute: calendar.minute,
            serial: SERIAL,
            name: SHOP.parse().unwrap(),
            public_key: key.public_key(),
            signature: [0; 64],
        };
        certificate.signature = ca.sign(&certificate.message()).unwrap();
        Self { certificate, key }
    }

    /// `DF51` for the values that the kernel of the tests sends.
    pub fn proof(
        &self,
        nonce: [u8; 8],
        kernel_key_data: [u8; 64],
        purchase: &Purchase,
        number: [u8; 4],
    ) -> [u8; 64] {
        let input = MerchantProofInput {
            nonce,
            kernel_key_data,
            amount_authorized: purchase.amount(),
            amount_other: [0; 6],
            currency: purchase.currency,
            country: [0x02, 0x76],
            date: [0x26, 0x11, 0x21],
            transaction_type: 0x00,
            unpredictable_number: number,
            terminal: TERMINAL,
        };
        self.key.sign(&input.message()).unwrap()
    }
}
