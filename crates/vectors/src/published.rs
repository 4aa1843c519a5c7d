//! The groups that only `emv_published.json` has: examples from specifications and public tests.

use tapfer_emv::channel::SecureChannel;
use tapfer_emv::cryptogram::{application_cryptogram, application_cryptogram_256};
use tapfer_emv::curve::PublicX;
use tapfer_emv::ecsdsa;
use tapfer_emv::keys::{CardMasterKey256, TokenKey};
use tapfer_emv::triple_des::{
    self, CardMasterKey, IssuerMasterKey, Padding, SessionKey, response_cryptogram_method_2,
};

use crate::case::Case;
use crate::kernel8::card_digits;

/// A CA key that signs itself: the key is the end of the message.
pub(crate) fn ca_self_certificate(case: &mut Case<'_>) -> Option<()> {
    let message = case.bytes("message")?;
    let field = "public_x_is_last_32_bytes_of_message";
    let is_so = case.flag(field)?;
    case.holds(field, "true: no other place is known", is_so);
    let key = message.last_chunk::<32>().ok_or("shorter than a key");
    let key = case.usable("message", key)?;
    let key = case.usable("message", PublicX::from_bytes(key))?;
    let signature = case.array("signature_r_s")?;
    let verified = ecsdsa::verify(&key, &message, &signature).is_ok();
    case.holds("signature_r_s", "the key's signature over the message", verified);
    Some(())
}

/// EDA-MAC: counter `0000`, cryptogram, IAD-MAC.
pub(crate) fn eda_mac(case: &mut Case<'_>) -> Option<()> {
    let [counter_high, counter_low, rest @ ..] = case.array::<18>("input")?;
    case.holds("input", "counter 0000 in front", [counter_high, counter_low] == [0, 0]);
    let (cryptogram, iad_mac) = rest.split_at(8);
    let cryptogram = case.usable("input", cryptogram.try_into())?;
    let iad_mac = case.usable("input", iad_mac.try_into())?;
    let channel = SecureChannel::from_session_keys([0; 16], case.array("ski")?, 0, 0);
    case.compare("mac", &channel.eda_mac(&cryptogram, &iad_mac))
}

/// From a card's own key, AES-128 or AES-256.
pub(crate) fn aes_application_cryptogram(case: &mut Case<'_>) -> Option<()> {
    let (key, counter) = (case.bytes("card_master_key")?, case.counter("atc")?);
    let input = case.bytes("input")?;
    let cryptogram = match <[u8; 32]>::try_from(key.as_slice()) {
        Ok(key) => {
            let session_key = CardMasterKey256::new(key).session_key(counter);
            application_cryptogram_256(&session_key, &input)
        }
        Err(_) => {
            let key = TokenKey::new(case.array("card_master_key")?);
            application_cryptogram(&key.session_key(counter), &input)
        }
    };
    case.compare("cryptogram", &cryptogram)
}

/// A 3DES key that a person or a ceremony wrote down: every byte has an odd number of ones.
fn key_with_parity(case: &mut Case<'_>, field: &str) -> Option<[u8; 16]> {
    let key: [u8; 16] = case.array(field)?;
    let is_odd = key.iter().all(|byte| byte.count_ones() & 1 == 1);
    case.holds(field, "a DES key with odd parity", is_odd);
    Some(key)
}

/// CVN 18: master key to cryptogram to issuer response.
pub(crate) fn tdes_cvn18(case: &mut Case<'_>) -> Option<()> {
    let master = IssuerMasterKey::new(key_with_parity(case, "issuer_master_key")?);
    let digits = card_digits(case)?;
    let key = master.card_master_key(&digits).session_key(case.counter("atc")?);
    let cryptogram = triple_des::application_cryptogram(&key, &case.bytes("input")?);
    case.compare("cryptogram", &cryptogram)?;
    let update = case.array("arpc_method_2/csu")?;
    let response = response_cryptogram_method_2(&key, &cryptogram, &update, &[]);
    case.compare("arpc_method_2/arpc", &response)
}

/// M/Chip, from the session key.
pub(crate) fn tdes_mchip(case: &mut Case<'_>) -> Option<()> {
    let key = SessionKey::new(case.array("session_key")?);
    let cryptogram = triple_des::application_cryptogram(&key, &case.bytes("input")?);
    case.compare("cryptogram", &cryptogram)
}

/// The issuer's response, from the session key.
pub(crate) fn arpc_method_2(case: &mut Case<'_>) -> Option<()> {
    let key = SessionKey::new(case.array("session_key")?);
    let (arqc, update) = (case.array("arqc")?, case.array("csu")?);
    case.compare("arpc", &response_cryptogram_method_2(&key, &arqc, &update, &[]))
}

/// Visa limited-use keys, and a cryptogram under the second of them.
pub(crate) fn visa_limited_use_key(case: &mut Case<'_>) -> Option<()> {
    let mut keys = Vec::new();
    for number in 0..case.list_length("cases") {
        let place = |name: &str| format!("cases/{number}/{name}");
        let card_key = CardMasterKey::new(key_with_parity(case, &place("udk"))?);
        let index = case.digits(&place("key_index_digits"))?;
        let key = card_key.visa_limited_use_key_of_digits(&index);
        case.compare(&place("luk"), key.expose())?;
        keys.push(key);
    }
    let place = |name: &str| format!("qvsdc_cryptogram_with_second_luk/{name}");
    let algorithm = "ISO 9797-1 algorithm 3, padding method 2";
    let is_so = case.text(&place("mac"))? == algorithm;
    case.holds(&place("mac"), algorithm, is_so);
    let second = case.usable("cases", keys.get(1).ok_or("less than two cases"))?;
    let input = case.bytes(&place("input"))?;
    let cryptogram = triple_des::retail_mac(second.expose(), &input, Padding::Method2);
    case.compare(&place("cryptogram"), &cryptogram)
}
