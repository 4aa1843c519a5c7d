//! The secure channel of Book E chapter 7: blinded Diffie-Hellman, then AES-CTR for records and
//! CMACs for integrity.
//!
//! Card: Pc = r·Qc, z = x(dc·r·Qk). Kernel: z = x(dk·Pc). The card sends x(Pc) and r, encrypted; the
//! kernel checks r·Qc = Pc once it has read and verified the card's certificate, so that nobody
//! without the terminal's ephemeral key learns which card it is.

use alloc::vec::Vec;

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use tapfer_payment_types::Secret;

use crate::curve::{BlindingScalar, PrivateKey, PublicPoint, PublicX};
use crate::keys::derive;
use crate::mac::{aes_cmac, aes_cmac_8, aes_cmac_plus, equal, first_eight};

/// The card's messages are numbered from here (Book E 7.3), the kernel's from zero.
const FIRST_CARD_MESSAGE: u16 = 0x8000;
/// A counter at this value ends the session.
const LAST_MESSAGE: u16 = 0xFFFF;
const MAC_LENGTH: usize = 8;

/// Why the channel cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// A message counter arrived at `FFFF`.
    #[error("the session has used up its message counter; start a new transaction")]
    CounterExhausted,
    /// The MAC is not what the session key gives.
    #[error("the message's MAC is wrong: it was changed on the way or is not from this card")]
    Mac,
    /// The blinded key is no point.
    #[error("the card's blinded public key is not on the curve")]
    BlindedKey,
    /// The blinding factor is outside 1 < r < n-1 or does not lead from the card's public key to the
    /// blinded one.
    #[error("the blinding factor does not fit the card's certified public key")]
    BlindingFactor,
    /// A message without room for its MAC.
    #[error("the message is shorter than the MAC it should end with")]
    TooShort,
}

/// What the card sends as `9F8103`: x of the blinded key ‖ encrypted blinding factor.
pub type CardKeyData = [u8; 64];

/// One side's end of the channel: session keys and message counters.
///
/// Keys are wiped on drop. Records are encrypted, not authenticated: what they say is proven later by
/// the certificates, the IAD-MAC and the EDA-MAC.
pub struct SecureChannel {
    confidentiality: Secret<[u8; 16]>,
    integrity: Secret<[u8; 16]>,
    card_counter: u16,
    kernel_counter: u16,
}

/// Kd = AES-CMAC(zero key, z) (Book E 7.2).
#[must_use]
pub fn derivation_key(shared_secret: &[u8; 32]) -> Secret<[u8; 16]> {
    Secret::new(aes_cmac(&[0; 16], &[shared_secret]))
}

/// SKc, for confidentiality, and SKi, for integrity, from Kd (Book E 7.2).
#[must_use]
pub fn session_keys(derivation_key: &[u8; 16]) -> (Secret<[u8; 16]>, Secret<[u8; 16]>) {
    let key = |purpose| {
        let block = [
            purpose, 0x01, 0x00, 0x54, 0x33, 0x4A, 0x32, 0x59, 0x57, 0x77, 0x3D, 0xA5, 0xA5, 0xA5,
            0x01, 0x80,
        ];
        derive(derivation_key, block)
    };
    (key(0x01), key(0x02))
}

/// Encrypts or decrypts one message in place: AES-CTR from block counter ‖ fourteen zeros.
fn apply_key_stream(key: &[u8; 16], counter: u16, message: &mut [u8]) {
    let [high, low] = counter.to_be_bytes();
    let first_block = [high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    Ctr128BE::<Aes128>::new(key.into(), (&first_block).into()).apply_keystream(message);
}

/// The counter's value for this message, which may not come.
const fn peek(counter: u16) -> Result<u16, ChannelError> {
    if counter == LAST_MESSAGE { Err(ChannelError::CounterExhausted) } else { Ok(counter) }
}

/// The counter's value for this message, and the next one for the message after.
fn advance(counter: &mut u16) -> Result<u16, ChannelError> {
    let current = peek(*counter)?;
    *counter = current.saturating_add(1);
    Ok(current)
}

impl SecureChannel {
    /// Card side: opens the channel with a fresh blinding factor. Message `8000` is the factor.
    ///
    /// # Errors
    /// None in practice: the message counter of a new channel is not exhausted.
    pub fn card(
        card_key: &PrivateKey,
        kernel_key: &PublicPoint,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, CardKeyData), ChannelError> {
        Self::card_with(card_key, kernel_key, &BlindingScalar::draw(rng))
    }

    /// Card side with a given blinding factor, for golden vectors.
    ///
    /// # Errors
    /// [`ChannelError::BlindingFactor`] unless 1 < factor < n-1.
    pub fn card_with_blinding_factor(
        card_key: &PrivateKey,
        kernel_key: &PublicPoint,
        factor: &[u8; 32],
    ) -> Result<(Self, CardKeyData), ChannelError> {
        let factor =
            BlindingScalar::from_bytes(factor).map_err(|_| ChannelError::BlindingFactor)?;
        Self::card_with(card_key, kernel_key, &factor)
    }

    fn card_with(
        card_key: &PrivateKey,
        kernel_key: &PublicPoint,
        factor: &BlindingScalar,
    ) -> Result<(Self, CardKeyData), ChannelError> {
        let blinded_key = factor.blind(card_key);
        let mut channel = Self::from_secret(&blinded_key.shared_x_with(kernel_key.point()));
        let mut encrypted_factor = factor.to_bytes();
        let counter = advance(&mut channel.card_counter)?;
        apply_key_stream(channel.skc(), counter, encrypted_factor.expose_mut());

        let mut card_key_data = [0; 64];
        let (left, right) = card_key_data.split_at_mut(32);
        left.copy_from_slice(blinded_key.public_x().bytes());
        right.copy_from_slice(encrypted_factor.expose());
        Ok((channel, card_key_data))
    }

    /// Kernel side: derives the keys and recovers the blinding factor, whose check has to wait for
    /// the card's certificate: [`BlindingFactor::check`].
    ///
    /// # Errors
    /// [`ChannelError::BlindedKey`] if the card's blinded key is not on the curve.
    pub fn kernel(
        kernel_key: &PrivateKey,
        card_key_data: &CardKeyData,
    ) -> Result<(Self, BlindingFactor), ChannelError> {
        let (mut blinded_x, mut factor) = ([0; 32], Secret::new([0; 32]));
        let (left, right) = card_key_data.split_at(32);
        blinded_x.copy_from_slice(left);
        factor.expose_mut().copy_from_slice(right);

        let blinded = PublicX::from_bytes(&blinded_x).map_err(|_| ChannelError::BlindedKey)?;
        let mut channel = Self::from_secret(&kernel_key.shared_x(&blinded));
        let counter = advance(&mut channel.card_counter)?;
        apply_key_stream(channel.skc(), counter, factor.expose_mut());
        Ok((channel, BlindingFactor { factor, blinded }))
    }

    fn from_secret(shared_secret: &Secret<[u8; 32]>) -> Self {
        let derivation_key = derivation_key(shared_secret.expose());
        let (confidentiality, integrity) = session_keys(derivation_key.expose());
        let (card_counter, kernel_counter) = (FIRST_CARD_MESSAGE, 0);
        Self { confidentiality, integrity, card_counter, kernel_counter }
    }

    /// The channel from its parts, for tests and vector files.
    #[must_use]
    pub const fn from_session_keys(
        skc: [u8; 16],
        ski: [u8; 16],
        card_counter: u16,
        kernel_counter: u16,
    ) -> Self {
        Self {
            confidentiality: Secret::new(skc),
            integrity: Secret::new(ski),
            card_counter,
            kernel_counter,
        }
    }

    const fn skc(&self) -> &[u8; 16] {
        self.confidentiality.expose()
    }

    const fn ski(&self) -> &[u8; 16] {
        self.integrity.expose()
    }

    /// Encrypts the value of a record (card side).
    ///
    /// # Errors
    /// [`ChannelError::CounterExhausted`] at the end of the counter.
    pub fn encrypt_record(&mut self, value: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let counter = advance(&mut self.card_counter)?;
        let mut message = value.to_vec();
        apply_key_stream(self.skc(), counter, &mut message);
        Ok(message)
    }

    /// Decrypts the value of a `DA` record (kernel side).
    ///
    /// # Errors
    /// [`ChannelError::CounterExhausted`] at the end of the counter.
    pub fn decrypt_record(&mut self, value: &[u8]) -> Result<Vec<u8>, ChannelError> {
        // In counter mode both directions are the same operation.
        self.encrypt_record(value)
    }

    /// READ DATA, card side: encrypted TLV ‖ 8-byte MAC.
    ///
    /// # Errors
    /// [`ChannelError::CounterExhausted`] at the end of the counter.
    pub fn seal_read_data(&mut self, plain: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let counter = self.card_counter;
        let mut answer = self.encrypt_record(plain)?;
        let mac = aes_cmac_8(self.ski(), &[&counter.to_be_bytes(), &answer]);
        answer.extend_from_slice(&mac);
        Ok(answer)
    }

    /// READ DATA, kernel side: checks the MAC, then decrypts. An answer whose MAC is wrong is no message
    /// of the card: the counter stays where it is.
    ///
    /// # Errors
    /// [`ChannelError::TooShort`], [`ChannelError::CounterExhausted`], [`ChannelError::Mac`].
    pub fn open_read_data(&mut self, answer: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let (encrypted, mac) =
            answer.split_last_chunk::<MAC_LENGTH>().ok_or(ChannelError::TooShort)?;
        let counter = peek(self.card_counter)?;
        let expected = aes_cmac_8(self.ski(), &[&counter.to_be_bytes(), encrypted]);
        if equal(&expected, mac) { self.decrypt_record(encrypted) } else { Err(ChannelError::Mac) }
    }

    /// WRITE DATA, kernel side: the encrypted TLV, and the MAC the card has to answer with. That
    /// answer is for [`check_write_data_answer`](Self::check_write_data_answer).
    ///
    /// # Errors
    /// [`ChannelError::CounterExhausted`] at the end of either counter.
    pub fn encrypt_write_data(&mut self, plain: &[u8]) -> Result<(Vec<u8>, [u8; 8]), ChannelError> {
        let mac = self.write_data_mac(peek(self.card_counter)?, plain);
        let counter = advance(&mut self.kernel_counter)?;
        let mut message = plain.to_vec();
        apply_key_stream(self.skc(), counter, &mut message);
        Ok((message, mac))
    }

    /// WRITE DATA, kernel side: the card's answer is a message of the card, good or not. A command
    /// that the card refused was not answered by one, and is not for here. Constant time.
    ///
    /// # Errors
    /// [`ChannelError::Mac`], [`ChannelError::CounterExhausted`].
    pub fn check_write_data_answer(
        &mut self,
        expected: &[u8; 8],
        answer: &[u8],
    ) -> Result<(), ChannelError> {
        advance(&mut self.card_counter)?;
        let mac: &[u8; 8] = answer.try_into().map_err(|_| ChannelError::Mac)?;
        if equal(expected, mac) { Ok(()) } else { Err(ChannelError::Mac) }
    }

    /// WRITE DATA, card side: the plain TLV. A command that is then refused has used up the kernel's
    /// message number and none of the card's.
    ///
    /// # Errors
    /// [`ChannelError::CounterExhausted`] at the end of the kernel's counter.
    pub fn open_write_data(&mut self, data: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let counter = advance(&mut self.kernel_counter)?;
        let mut plain = data.to_vec();
        apply_key_stream(self.skc(), counter, &mut plain);
        Ok(plain)
    }

    /// WRITE DATA, card side: the MAC that says what was understood.
    ///
    /// # Errors
    /// [`ChannelError::CounterExhausted`] at the end of the card's counter.
    pub fn answer_write_data(&mut self, plain: &[u8]) -> Result<[u8; 8], ChannelError> {
        let counter = advance(&mut self.card_counter)?;
        Ok(self.write_data_mac(counter, plain))
    }

    /// WRITE DATA, card side: the plain TLV, and the MAC to answer with.
    ///
    /// # Errors
    /// [`ChannelError::CounterExhausted`] at the end of either counter.
    pub fn decrypt_write_data(&mut self, data: &[u8]) -> Result<(Vec<u8>, [u8; 8]), ChannelError> {
        let plain = self.open_write_data(data)?;
        let mac = self.answer_write_data(&plain)?;
        Ok((plain, mac))
    }

    /// The answer to WRITE DATA is a message of the card, so it is the card's counter that it holds
    /// and moves on. The golden vectors confirm the first; they have no message after it.
    fn write_data_mac(&self, card_counter: u16, plain: &[u8]) -> [u8; 8] {
        aes_cmac_8(self.ski(), &[&card_counter.to_be_bytes(), plain])
    }

    /// IAD-MAC: first 8 bytes of AES-CMAC+(SKi, `0000` ‖ input).
    #[must_use]
    pub fn iad_mac(&self, input: &IadMacInput<'_>) -> [u8; 8] {
        let (entropy, answer) = input
            .relay_resistance
            .map_or((&[][..], &[][..]), |(entropy, answer)| (entropy.as_slice(), answer));
        first_eight(aes_cmac_plus(
            self.ski(),
            &[
                &[0, 0],
                input.pdol_values,
                input.cdol1_values,
                entropy,
                answer,
                input.generate_ac_tlvs,
                input.sda_hash,
            ],
        ))
    }

    /// EDA-MAC: first 8 bytes of AES-CMAC(SKi, `0000` ‖ AC ‖ IAD-MAC).
    #[must_use]
    pub fn eda_mac(&self, application_cryptogram: &[u8; 8], iad_mac: &[u8; 8]) -> [u8; 8] {
        aes_cmac_8(self.ski(), &[&[0, 0], application_cryptogram, iad_mac])
    }
}

/// What the IAD-MAC covers, in this order.
pub struct IadMacInput<'a> {
    /// Values the terminal sent with GET PROCESSING OPTIONS, without `83` and length.
    pub pdol_values: &'a [u8],
    /// Values the terminal sent with GENERATE AC.
    pub cdol1_values: &'a [u8],
    /// Terminal entropy and the value of the last EXCHANGE RELAY RESISTANCE DATA answer, if the
    /// relay check was performed.
    pub relay_resistance: Option<(&'a [u8; 4], &'a [u8; 10])>,
    /// TLVs of the GENERATE AC answer, in its order, without AC `9F26` and EDA-MAC `9F8105`.
    pub generate_ac_tlvs: &'a [u8],
    /// Hash of the static data.
    pub sda_hash: &'a [u8; 32],
}

/// r as the kernel recovered it, together with the blinded key it should explain. Wiped on drop.
pub struct BlindingFactor {
    factor: Secret<[u8; 32]>,
    blinded: PublicX,
}

impl BlindingFactor {
    /// r·Qc must give Pc: the card that holds the certified key is the one at the other end.
    ///
    /// # Errors
    /// [`ChannelError::BlindingFactor`] if r is outside 1 < r < n-1 or leads elsewhere.
    pub fn check(&self, card_public_key: &PublicX) -> Result<(), ChannelError> {
        let factor = BlindingScalar::from_bytes(self.factor.expose())
            .map_err(|_| ChannelError::BlindingFactor)?;
        let expected = factor.blinded_x(card_public_key);
        if bool::from(expected.expose().ct_eq(self.blinded.bytes())) {
            Ok(())
        } else {
            Err(ChannelError::BlindingFactor)
        }
    }
}
