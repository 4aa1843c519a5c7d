//! The groups of `kernel8.json`: secure channel, signatures, certificates, cryptograms.

use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate};
use tapfer_emv::channel::{IadMacInput, SecureChannel, derivation_key, session_keys};
use tapfer_emv::cryptogram;
use tapfer_emv::curve::{PrivateKey, PublicPoint, PublicX};
use tapfer_emv::ecsdsa;
use tapfer_emv::keys::{CardDigits, IssuerMasterKey};
use tapfer_emv::triple_des;
use tapfer_payment_types::PanSequenceNumber;

use crate::case::Case;

/// A private key.
pub(crate) fn private_key(case: &mut Case<'_>, field: &str) -> Option<PrivateKey> {
    let bytes = case.array(field)?;
    case.usable(field, PrivateKey::from_bytes(&bytes))
}

/// A public key given as x.
pub(crate) fn public_x(case: &mut Case<'_>, field: &str) -> Option<PublicX> {
    let bytes = case.array(field)?;
    case.usable(field, PublicX::from_bytes(&bytes))
}

/// Key agreement, records and MACs of one session (Book E chapter 7). Published examples have pieces
/// of the chain only.
pub(crate) fn blinded_diffie_hellman(case: &mut Case<'_>) -> Option<()> {
    if !case.has("card_private") {
        return pieces_of_key_agreement(case);
    }
    let (card_key, kernel_key) =
        (private_key(case, "card_private")?, private_key(case, "kernel_private")?);
    case.compare("card_public_x", card_key.public_x().bytes())?;
    case.compare("kernel_key_data_9e", &kernel_key.public_point())?;
    let blinded = public_x(case, "blinded_public_x")?;
    case.compare("shared_secret_z", kernel_key.shared_x(&blinded).expose())?;
    session_keys_of_secret(case)?;

    let (mut card, mut kernel) = open_channel(case, &card_key, &kernel_key)?;
    for (plain, encrypted) in [
        ("record_value_1", "record_value_1_encrypted_counter_8001"),
        ("record_value_2", "record_value_2_encrypted_counter_8002"),
    ] {
        let value = case.bytes(plain)?;
        let sent = case.usable(plain, card.encrypt_record(&value))?;
        case.compare(encrypted, &sent)?;
        let received = case.bytes(encrypted)?;
        let decrypted = case.usable(encrypted, kernel.decrypt_record(&received))?;
        case.compare(plain, &decrypted)?;
    }
    message_authentication(case, &card)
}

/// Whatever follows from the values that are there.
fn pieces_of_key_agreement(case: &mut Case<'_>) -> Option<()> {
    if case.has("kernel_private") {
        let kernel_key = private_key(case, "kernel_private")?;
        let blinded = public_x(case, "blinded_public_x")?;
        case.compare("shared_secret_z", kernel_key.shared_x(&blinded).expose())?;
    }
    if case.has("kd") { session_keys_of_secret(case) } else { Some(()) }
}

fn session_keys_of_secret(case: &mut Case<'_>) -> Option<()> {
    let key = derivation_key(&case.array("shared_secret_z")?);
    case.compare("kd", key.expose())?;
    let (skc, ski) = session_keys(key.expose());
    case.compare("skc", skc.expose())?;
    case.compare("ski", ski.expose())
}

/// Both sides of the channel, each from what it knows.
fn open_channel(
    case: &mut Case<'_>,
    card_key: &PrivateKey,
    kernel_key: &PrivateKey,
) -> Option<(SecureChannel, SecureChannel)> {
    let kernel_point = case.array("kernel_key_data_9e")?;
    let kernel_point = case.usable("kernel_key_data_9e", PublicPoint::from_bytes(&kernel_point))?;
    let factor = case.array("blinding_factor")?;
    let opened = SecureChannel::card_with_blinding_factor(card_key, &kernel_point, &factor);
    let (card, card_key_data) = case.usable("blinding_factor", opened)?;
    let (blinded, encrypted_factor) = card_key_data.split_at(32);
    case.compare("card_key_data_9f8103", &card_key_data)?;
    case.compare("blinded_public_x", blinded)?;
    case.compare("encrypted_blinding_factor_counter_8000", encrypted_factor)?;

    let received = case.array("card_key_data_9f8103")?;
    let opened = SecureChannel::kernel(kernel_key, &received);
    let (kernel, recovered) = case.usable("card_key_data_9f8103", opened)?;
    let checked = recovered.check(&public_x(case, "card_public_x")?);
    case.usable("card_public_x", checked)?;
    Some((card, kernel))
}

fn message_authentication(case: &mut Case<'_>, channel: &SecureChannel) -> Option<()> {
    let pdol_values = case.bytes("pdol_values")?;
    let cdol1_values = case.bytes("cdol1_related_data")?;
    let generate_ac_tlvs = case.bytes("generate_ac_response_tlvs_without_ac_and_eda_mac")?;
    let sda_hash = case.array("sda_hash")?;
    let entropy = case.array("terminal_relay_resistance_entropy")?;
    let answer = case.array("last_errd_response_value")?;
    let iad_mac = |relay_resistance| {
        channel.iad_mac(&IadMacInput {
            pdol_values: &pdol_values,
            cdol1_values: &cdol1_values,
            relay_resistance,
            generate_ac_tlvs: &generate_ac_tlvs,
            sda_hash: &sda_hash,
        })
    };
    let without = iad_mac(None);
    case.compare("iad_mac_without_relay_resistance", &without)?;
    case.compare("iad_mac_with_relay_resistance", &iad_mac(Some((&entropy, &answer))))?;
    let application_cryptogram = case.array("application_cryptogram")?;
    let eda_mac = channel.eda_mac(&application_cryptogram, &without);
    case.compare("eda_mac_over_ac_and_first_iad_mac", &eda_mac)
}

/// Signing with the given nonce, and verifying (ISO/IEC 14888-3). Published examples leave `public_x`
/// out.
pub(crate) fn ec_sdsa(case: &mut Case<'_>) -> Option<()> {
    let key = private_key(case, "private")?;
    if case.has("public_x") {
        case.compare("public_x", key.public_x().bytes())?;
    }
    let (message, nonce) = (case.bytes("message")?, case.array("nonce_k")?);
    let signed = ecsdsa::sign_with_nonce(&key, &message, &nonce).ok_or("not a usable nonce");
    let signed = case.usable("nonce_k", signed)?;
    case.compare("signature_r_s", &signed)?;
    let signature = case.array("signature_r_s")?;
    let verified = ecsdsa::verify(&key.public_x(), &message, &signature);
    case.usable("signature_r_s", verified)
}

/// CA, issuer and card (Book E chapter 5). Expiries are left aside: a golden value does not age.
pub(crate) fn certificate_chain(case: &mut Case<'_>) -> Option<()> {
    let ca = CaPublicKey {
        rid: case.array("rid")?,
        index: case.number("ca_index")?,
        key: public_x(case, "ca_public_x")?,
    };
    let issuer = issuer_certificate(case, &ca)?;
    let bytes = case.bytes("icc_certificate_tag_9f46")?;
    let card = case.usable("icc_certificate_tag_9f46", IccCertificate::parse(&bytes))?;
    case.compare("icc_certificate_tag_9f46", &card.encode())?;
    case.compare("iccd_hash", &card.sda_hash)?;
    case.compare("icc_public_x", card.public_key.bytes())?;
    let verified = ecsdsa::verify(&issuer.public_key, &card.message(), &card.signature);
    case.usable("icc_certificate_tag_9f46", verified)
}

fn issuer_certificate(case: &mut Case<'_>, ca: &CaPublicKey) -> Option<IssuerCertificate> {
    let field = "issuer_certificate_tag_90";
    let bytes = case.bytes(field)?;
    let issuer = case.usable(field, IssuerCertificate::parse(&bytes))?;
    case.compare(field, &issuer.encode())?;
    case.compare("rid", &issuer.rid)?;
    case.holds("ca_index", "the index in the issuer certificate", issuer.ca_index == ca.index);
    case.compare("issuer_public_x", issuer.public_key.bytes())?;
    let verified = ecsdsa::verify(&ca.key, &issuer.message(), &issuer.signature);
    case.usable(field, verified)?;
    Some(issuer)
}

/// Card number and sequence number as key derivations take them.
pub(crate) fn card_digits(case: &mut Case<'_>) -> Option<CardDigits> {
    let (pan, sequence) = (case.text("pan")?, case.text("pan_sequence_number")?);
    let sequence = sequence.parse::<u8>().map_err(|error| error.to_string());
    let sequence = case.usable("pan_sequence_number", sequence)?;
    let sequence = case.usable("pan_sequence_number", PanSequenceNumber::new(sequence))?;
    case.usable("pan", CardDigits::new(pan, sequence))
}

/// The same data under AES (option C, Book E) and 3DES (option A, Book 2).
pub(crate) fn application_cryptogram(case: &mut Case<'_>) -> Option<()> {
    let master = case.array("issuer_master_key")?;
    let digits = card_digits(case)?;
    let (counter, input) = (case.counter("atc")?, case.bytes("input")?);

    let card_key = IssuerMasterKey::new(master).card_key(&digits);
    case.compare("aes_card_master_key_option_c", card_key.expose())?;
    let session_key = card_key.session_key(counter);
    case.compare("aes_session_key", session_key.expose())?;
    let cryptogram = cryptogram::application_cryptogram(&session_key, &input);
    case.compare("aes_cmac_cryptogram", &cryptogram)?;

    let master = triple_des::IssuerMasterKey::new(master);
    let card_key = master.card_master_key(&digits);
    let as_encrypted = master.card_master_key_as_encrypted(&digits);
    // Some systems adjust the parity bits of a derived 3DES key and some leave them as they came out.
    let forms = [card_key.expose().as_slice(), as_encrypted.expose()];
    case.compare_any("tdes_card_master_key_option_a", &forms)?;
    let session_key = card_key.session_key(counter);
    let as_encrypted = card_key.session_key_as_encrypted(counter);
    let forms = [session_key.expose().as_slice(), as_encrypted.expose()];
    case.compare_any("tdes_session_key_common", &forms)?;
    let cryptogram = triple_des::application_cryptogram(&session_key, &input);
    case.compare("tdes_cryptogram", &cryptogram)
}

/// READ DATA and WRITE DATA, each from both sides and from the same counters.
pub(crate) fn data_envelope(case: &mut Case<'_>) -> Option<()> {
    let (skc, ski) = (case.array("skc")?, case.array("ski")?);
    let card_counter = case.number("card_message_counter")?;
    let kernel_counter = case.number("kernel_message_counter")?;
    let channel = || SecureChannel::from_session_keys(skc, ski, card_counter, kernel_counter);
    let plain = case.bytes("plain")?;

    let sealed = case.usable("card_message_counter", channel().seal_read_data(&plain))?;
    case.compare("read_data_response", &sealed)?;
    let answer = case.bytes("read_data_response")?;
    let opened = case.usable("read_data_response", channel().open_read_data(&answer))?;
    case.compare("plain", &opened)?;

    let written = channel().encrypt_write_data(&plain);
    let (command, mac) = case.usable("kernel_message_counter", written)?;
    case.compare("write_data_command", &command)?;
    case.compare("write_data_response_mac", &mac)?;
    let received = case.bytes("write_data_command")?;
    let (opened, mac) =
        case.usable("write_data_command", channel().decrypt_write_data(&received))?;
    case.compare("plain", &opened)?;
    case.compare("write_data_response_mac", &mac)
}
