//! What a tap computes with, one primitive at a time, each beside the same primitive of aws-lc-rs in
//! the same round. Ours are the functions that card and terminal really call.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey as VerifyingKey,
};
use aws_lc_rs::{agreement, cmac, digest};
use serde_json::Value;
use tapfer_emv::certificate::{CertificateDate, sda_hash};
use tapfer_emv::channel::SecureChannel;
use tapfer_emv::curve::{PrivateKey, PublicPoint, PublicX};
use tapfer_emv::merchant::{
    MerchantCaKey, MerchantCertificate, MerchantPrivateKey, MerchantSigner as _,
};
use tapfer_emv::{ecsdsa, mac};

use super::figure::{self, Summary};
use crate::clock;

/// Bytes of a message: about as long as the longest record and what a MAC of a tap covers.
const MESSAGE: [u8; 256] = [0x5A; 256];
const KEY: [u8; 16] = [0x42; 16];
/// What takes less than a microsecond is done this often between two looks at the clock.
const OFTEN: u32 = 64;
const SECONDS_PER_DAY: i64 = 86_400;

type Work = Box<dyn Fn() -> anyhow::Result<()>>;

/// One primitive, done by the tap's own code and by another library.
struct Pair {
    figure: &'static str,
    what: &'static str,
    repetitions: u32,
    ours: Work,
    theirs: Work,
    our_times: Vec<Duration>,
    their_times: Vec<Duration>,
}

impl Pair {
    fn new(
        figure: &'static str,
        what: &'static str,
        repetitions: u32,
        ours: impl Fn() -> anyhow::Result<()> + 'static,
        theirs: impl Fn() -> anyhow::Result<()> + 'static,
    ) -> Self {
        let (ours, theirs) = (Box::new(ours), Box::new(theirs));
        let (our_times, their_times) = (Vec::new(), Vec::new());
        Self { figure, what, repetitions, ours, theirs, our_times, their_times }
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        self.our_times.push(timed(&self.ours, self.repetitions)?);
        self.their_times.push(timed(&self.theirs, self.repetitions)?);
        Ok(())
    }

    fn figure(&self) -> Value {
        let ours = Summary::in_microseconds(&self.our_times);
        let theirs = Summary::in_microseconds(&self.their_times);
        figure::beside(self.figure, "us", &ours, self.what, &theirs, self.our_times.len())
    }
}

/// Time of one repetition.
fn timed(work: &Work, repetitions: u32) -> anyhow::Result<Duration> {
    let begin = clock::instant();
    for _ in 0..repetitions {
        work()?;
    }
    begin.elapsed().checked_div(repetitions).context("nothing was repeated")
}

/// Every primitive of a tap.
pub(super) struct Primitives {
    agreement: Pair,
    others: Vec<Pair>,
}

impl Primitives {
    /// Makes the keys they work with.
    ///
    /// # Errors
    /// aws-lc-rs makes no key.
    pub(super) fn new() -> anyhow::Result<Self> {
        let agreement = key_agreement()?;
        let others = vec![
            key_generation(),
            blinded_key_agreement()?,
            ecsdsa_verification()?,
            ecdsa_signature()?,
            ecdsa_verification()?,
            cipher_mac()?,
            counter_mode()?,
            hash(),
        ];
        Ok(Self { agreement, others })
    }

    /// One round of each.
    ///
    /// # Errors
    /// A primitive refuses.
    pub(super) fn measure(&mut self) -> anyhow::Result<()> {
        self.agreement.measure()?;
        self.others.iter_mut().try_for_each(Pair::measure)
    }

    /// What the rounds gave.
    pub(super) fn figures(&self) -> Vec<Value> {
        [&self.agreement].into_iter().chain(&self.others).map(Pair::figure).collect()
    }

    /// Times of a key agreement by the other library.
    pub(super) fn agreements(&self) -> &[Duration] {
        &self.agreement.their_times
    }
}

fn failed<E>(_: E) -> anyhow::Error {
    anyhow!("aws-lc-rs refuses to compute")
}

/// The terminal's ephemeral key.
fn key_generation() -> Pair {
    Pair::new(
        "tap.primitive.key_generation_us",
        "P-256 key generation of aws-lc-rs",
        1,
        || {
            black_box(PrivateKey::generate(&mut clock::random()));
            Ok(())
        },
        || {
            let key = agreement::PrivateKey::generate(&agreement::ECDH_P256).map_err(failed)?;
            black_box(key.compute_public_key().map_err(failed)?);
            Ok(())
        },
    )
}

fn key_agreement() -> anyhow::Result<Pair> {
    let own = PrivateKey::generate(&mut clock::random());
    let peer = PrivateKey::generate(&mut clock::random()).public_x();
    let agree = their_agreement()?;
    Ok(Pair::new(
        "tap.primitive.key_agreement_us",
        "P-256 key agreement of aws-lc-rs",
        1,
        move || {
            black_box(own.shared_x(&peer));
            Ok(())
        },
        agree,
    ))
}

/// The card's side of the channel: two multiplications, derivation and one encryption.
fn blinded_key_agreement() -> anyhow::Result<Pair> {
    let card = PrivateKey::generate(&mut clock::random());
    let kernel = PrivateKey::generate(&mut clock::random()).public_point();
    let kernel = PublicPoint::from_bytes(&kernel)?;
    let agree = their_agreement()?;
    Ok(Pair::new(
        "tap.primitive.blinded_agreement_us",
        "two P-256 key agreements of aws-lc-rs, which knows no blinded one",
        1,
        move || {
            black_box(SecureChannel::card(&card, &kernel, &mut clock::random())?);
            Ok(())
        },
        move || agree().and_then(|()| agree()),
    ))
}

fn their_agreement() -> anyhow::Result<impl Fn() -> anyhow::Result<()>> {
    let own = agreement::PrivateKey::generate(&agreement::ECDH_P256).map_err(failed)?;
    let peer = agreement::PrivateKey::generate(&agreement::ECDH_P256).map_err(failed)?;
    let peer = peer.compute_public_key().map_err(failed)?.as_ref().to_vec();
    Ok(move || {
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, &peer);
        agreement::agree(&own, peer, anyhow!("aws-lc-rs agrees on no key"), |shared| {
            black_box(shared);
            Ok(())
        })
    })
}

fn ecsdsa_verification() -> anyhow::Result<Pair> {
    let key = PrivateKey::generate(&mut clock::random());
    let signature = ecsdsa::sign(&key, &MESSAGE, &mut clock::random());
    let key: PublicX = key.public_x();
    Ok(Pair::new(
        "tap.primitive.ecsdsa_verify_us",
        "ECDSA P-256 verification of aws-lc-rs, which knows no EC-SDSA",
        1,
        move || Ok(ecsdsa::verify(&key, &MESSAGE, &signature)?),
        their_verification()?,
    ))
}

/// The merchant proof at the terminal.
fn ecdsa_signature() -> anyhow::Result<Pair> {
    let ours = MerchantPrivateKey::generate(&mut clock::random());
    let theirs = their_key()?;
    Ok(Pair::new(
        "tap.primitive.ecdsa_sign_us",
        "ECDSA P-256 signature of aws-lc-rs",
        1,
        move || {
            black_box(ours.sign(&MESSAGE)?);
            Ok(())
        },
        move || {
            black_box(theirs.sign(&SystemRandom::new(), &MESSAGE).map_err(failed)?);
            Ok(())
        },
    ))
}

/// The merchant's certificate and proof at the phone.
fn ecdsa_verification() -> anyhow::Result<Pair> {
    let authority = MerchantPrivateKey::generate(&mut clock::random());
    let now = clock::now();
    let mut certificate = MerchantCertificate {
        acquirer: [0x01; 6],
        merchant: *b"MERCHANT       ",
        terminal: *b"TERMINAL",
        expiry: CertificateDate::of(now.plus_seconds(SECONDS_PER_DAY)),
        hour: 0,
        minute: 0,
        serial: [0; 6],
        name: "Corner Cafe".parse()?,
        public_key: authority.public_key(),
        signature: [0; 64],
    };
    certificate.signature = authority.sign(&certificate.message())?;
    let authority = MerchantCaKey::from_bytes(&authority.public_key().bytes())?;
    Ok(Pair::new(
        "tap.primitive.ecdsa_verify_us",
        "ECDSA P-256 verification of aws-lc-rs",
        1,
        move || {
            black_box(certificate.verify(&authority, now)?);
            Ok(())
        },
        their_verification()?,
    ))
}

fn their_key() -> anyhow::Result<EcdsaKeyPair> {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)
}

fn their_verification() -> anyhow::Result<impl Fn() -> anyhow::Result<()>> {
    let key = their_key()?;
    let signature = key.sign(&SystemRandom::new(), &MESSAGE).map_err(failed)?;
    let public = key.public_key().as_ref().to_vec();
    Ok(move || {
        let key = VerifyingKey::new(&ECDSA_P256_SHA256_FIXED, &public);
        key.verify(&MESSAGE, signature.as_ref()).map_err(failed)
    })
}

fn cipher_mac() -> anyhow::Result<Pair> {
    Ok(Pair::new(
        "tap.primitive.aes_cmac_256_bytes_us",
        "AES-128-CMAC of aws-lc-rs over as many bytes",
        OFTEN,
        || {
            black_box(mac::aes_cmac(&KEY, &[&MESSAGE]));
            Ok(())
        },
        || {
            let key = cmac::Key::new(cmac::AES_128, &KEY).map_err(failed)?;
            black_box(cmac::sign(&key, &MESSAGE).map_err(failed)?);
            Ok(())
        },
    ))
}

/// A record on the channel.
fn counter_mode() -> anyhow::Result<Pair> {
    let card = PrivateKey::generate(&mut clock::random());
    let kernel = PrivateKey::generate(&mut clock::random()).public_point();
    let kernel = PublicPoint::from_bytes(&kernel)?;
    // Good for 32,767 messages: more than the rounds there are.
    let (channel, _) = SecureChannel::card(&card, &kernel, &mut clock::random())?;
    let channel = RefCell::new(channel);
    Ok(Pair::new(
        "tap.primitive.aes_ctr_256_bytes_us",
        "AES-128 in counter mode of aws-lc-rs over as many bytes",
        OFTEN,
        move || {
            black_box(channel.borrow_mut().encrypt_record(&MESSAGE)?);
            Ok(())
        },
        || {
            let mut message = MESSAGE.to_vec();
            let key = UnboundCipherKey::new(&AES_128, &KEY).map_err(failed)?;
            let key = EncryptingKey::ctr(key).map_err(failed)?;
            let iv = EncryptionContext::Iv128(FixedLength::from([0_u8; 16]));
            key.less_safe_encrypt(&mut message, iv).map_err(failed)?;
            black_box(message);
            Ok(())
        },
    ))
}

/// The card's static data.
fn hash() -> Pair {
    Pair::new(
        "tap.primitive.sha256_258_bytes_us",
        "SHA-256 of aws-lc-rs over as many bytes",
        OFTEN,
        || {
            black_box(sda_hash(&[&MESSAGE], &[], [0x01, 0x05]));
            Ok(())
        },
        || {
            let mut hash = digest::Context::new(&digest::SHA256);
            hash.update(&MESSAGE);
            hash.update(&[0x01, 0x05]);
            black_box(hash.finish());
            Ok(())
        },
    )
}
