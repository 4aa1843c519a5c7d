//! The worker's half: from a request to the verb, and from what came of it to the answer.

use std::num::NonZeroU32;

use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::cryptogram::{self, CryptogramInput};
use tapfer_emv::curve::{PublicPoint, PublicX};
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex};
use tapfer_emv::merchant::MerchantName;
use tapfer_payment_types::messages::{HexBytes, SealedPayload};
use tapfer_payment_types::{
    ApiKeyId, CardId, DeviceId, IssuerId, PanSequenceNumber, Secret, TerminalId, Timestamp, TokenId,
};
use zeroize::Zeroizing;

use super::reply::{Answer, Reply, Verdict};
use super::request::{Cryptogram, Documents, Grant, Owner, Provisioning, Request};
use crate::{
    CardPinSubject, CardPinValue, Client, ClientCertificateRequest, CryptogramRequest,
    CryptogramVerdict, DetokenizationGrant, DocumentPurpose, HsmError, IccCertificateRequest,
    IssuerCertificateRequest, IssuerKeys, LimitedUseKeyTerms, MerchantCertificateRequest,
    OperatorGrant, PaymentHsm, PersonKeyImport, PersonKeyInUse, PersonKeySubject, PersonKeyVerdict,
    ProvisioningRequest, RecordOwner, SealedCardRecord, SealedPersonKey, SingleUseKeyTerms,
};

/// Where an answer goes. It is lent: what is secret in it is wiped when the verb's result goes out of scope.
type Respond<'r> = &'r mut dyn FnMut(Reply<'_>);

/// Asks the module what a request says, and gives the answer to `respond`, once.
pub fn perform(request: &Request<'_>, hsm: &dyn PaymentHsm, respond: &mut dyn FnMut(&Answer<'_>)) {
    let mut answered = |reply: Reply<'_>| respond(&Answer::Done(reply));
    if let Err(error) = ask(request, hsm, &mut answered) {
        respond(&Answer::failed(error));
    }
}

fn ask(request: &Request<'_>, hsm: &dyn PaymentHsm, respond: Respond<'_>) -> Result<(), HsmError> {
    match request {
        Request::Health => hsm.health().map(|()| respond(Reply::Nothing)),
        Request::FollowCatalogue { known } => {
            let mark = hsm.follow_catalogue(known.as_ref())?;
            respond(Reply::Catalogue(mark));
            Ok(())
        }
        Request::Random { length } => random(hsm, *length, respond),
        Request::VerifyCryptogram(request) => verify_cryptogram(hsm, request, respond),
        Request::SealProvisioning(request) => seal_provisioning(hsm, request, respond),
        Request::CreateCertificationAuthority { .. }
        | Request::CaPublicKey { .. }
        | Request::CreateIssuer { .. }
        | Request::IssuerKeys { .. }
        | Request::CreateMerchantAuthority { .. }
        | Request::MerchantCaKey
        | Request::CreateAccessKeys { .. }
        | Request::ClientAuthorities
        | Request::RepetitionSecret
        | Request::CreateDocumentKeys { .. }
        | Request::DocumentKeys { .. }
        | Request::DemoKeys { .. }
        | Request::ImportDemoIssuer { .. } => keys(hsm, request, respond),
        Request::IssueIssuerCertificate { .. }
        | Request::SignIccCertificate { .. }
        | Request::SignMerchantCertificate { .. }
        | Request::SignClientCertificate { .. }
        | Request::SignDocument { .. } => sign(hsm, request, respond),
        Request::PersonKeyRecipient { .. }
        | Request::AcceptPersonKey { .. }
        | Request::CardPinValue { .. }
        | Request::VerifyCardPin { .. }
        | Request::StoreShare { .. } => persons(hsm, request, respond),
        Request::SealCardRecord { .. }
        | Request::OpenCardRecord { .. }
        | Request::PanLookup { .. } => records(hsm, request, respond),
    }
}

/// Both ends are the same program: a request that cannot be read is a defect.
const fn unreadable() -> HsmError {
    HsmError::Internal { operation: "reading a request" }
}

fn read<T, E>(value: Result<T, E>) -> Result<T, HsmError> {
    value.map_err(|_| unreadable())
}

const fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn random(hsm: &dyn PaymentHsm, length: u32, respond: Respond<'_>) -> Result<(), HsmError> {
    let length = read(usize::try_from(length))?.min(super::MAXIMUM_MESSAGE);
    let mut bytes = Zeroizing::new(vec![0; length]);
    hsm.random(&mut bytes)?;
    respond(Reply::Bytes(&bytes));
    Ok(())
}

fn verify_cryptogram(
    hsm: &dyn PaymentHsm,
    request: &Cryptogram<'_>,
    respond: Respond<'_>,
) -> Result<(), HsmError> {
    let verdict = hsm.verify_cryptogram(&CryptogramRequest {
        issuer: IssuerId::from_bits(request.issuer),
        derivation_key_index: request.derivation_key_index,
        token: TokenId::from_bits(request.number.token),
        token_pan: &read(request.number.token_pan.parse())?,
        sequence: read(PanSequenceNumber::new(request.number.sequence))?,
        key_class: KeyClass::from_byte(request.key_class).ok_or_else(unreadable)?,
        key_index: read(KeyIndex::from_bytes(request.key_index))?,
        input: &CryptogramInput::from(&request.input),
        received: &request.received,
    })?;
    respond(Reply::Verdict(match verdict {
        CryptogramVerdict::Verified(proof) => Verdict::Verified(*proof.cryptogram()),
        CryptogramVerdict::Mismatch => Verdict::Mismatch,
        CryptogramVerdict::UnknownDerivationKey => Verdict::UnknownDerivationKey,
    }));
    Ok(())
}

fn seal_provisioning(
    hsm: &dyn PaymentHsm,
    request: &Provisioning<'_>,
    respond: Respond<'_>,
) -> Result<(), HsmError> {
    let documents: Documents = read(serde_json::from_slice(request.documents))?;
    let limited =
        |&(index, expires_at, maximum_payments, maximum_total_minor): &([u8; 4], _, _, _)| {
            Ok(LimitedUseKeyTerms {
                key_index: read(KeyIndex::from_bytes(index))?,
                expires_at: at(expires_at),
                maximum_payments,
                maximum_total_minor,
            })
        };
    let single = |&(index, expires_at, first_counter, count): &([u8; 4], _, _, _)| {
        Ok(SingleUseKeyTerms {
            key_index: read(KeyIndex::from_bytes(index))?,
            expires_at: at(expires_at),
            first_counter,
            count,
        })
    };
    let limited_use_keys: Result<Vec<_>, HsmError> =
        request.limited_use_keys.iter().map(limited).collect();
    let single_use_keys: Result<Vec<_>, HsmError> =
        request.single_use_keys.iter().map(single).collect();
    let verified_keys: Result<Vec<_>, HsmError> =
        request.verified_keys.iter().map(single).collect();
    let person_key = request.person_key.map(|(generation, key)| (generation, sealed_key(key)));
    let sealed = hsm.seal_provisioning(ProvisioningRequest {
        issuer: IssuerId::from_bits(request.issuer),
        derivation_key_index: request.derivation_key_index,
        token: TokenId::from_bits(request.number.token),
        token_pan: &read(request.number.token_pan.parse())?,
        sequence: read(PanSequenceNumber::new(request.number.sequence))?,
        recipient: read(request.recipient.try_into())?,
        profile: documents.profile,
        icc_certificate: documents.icc_certificate,
        limited_use_keys: &limited_use_keys?,
        single_use_keys: &single_use_keys?,
        verified_keys: &verified_keys?,
        person_key: person_key
            .as_ref()
            .map(|(generation, key)| PersonKeyInUse { generation: *generation, key }),
        pin: documents.pin,
        since_verified: documents.since_verified,
        last_verified: documents.last_verified,
        counter_heard: documents.counter_heard,
        logged_in_at: documents.logged_in_at,
        payments_since_login: documents.payments_since_login,
        configuration: documents.configuration,
    })?;
    respond(Reply::Sealed(&sealed.encapsulated_key.0, &sealed.ciphertext.0));
    Ok(())
}

fn keys(hsm: &dyn PaymentHsm, request: &Request<'_>, respond: Respond<'_>) -> Result<(), HsmError> {
    let issuer_keys = |keys: IssuerKeys| {
        respond(Reply::IssuerKeys {
            derivation_key_index: keys.derivation_key_index,
            public_key: *keys.public_key.bytes(),
        });
    };
    match *request {
        Request::CreateIssuer { issuer, now } => {
            hsm.create_issuer(IssuerId::from_bits(issuer), at(now)).map(issuer_keys)
        }
        Request::IssuerKeys { issuer } => {
            hsm.issuer_keys(IssuerId::from_bits(issuer)).map(issuer_keys)
        }
        Request::ImportDemoIssuer { issuer, key, now } => {
            let key = IssuerMasterKey::new(key);
            hsm.import_demo_issuer(IssuerId::from_bits(issuer), key, at(now)).map(issuer_keys)
        }
        Request::CreateCertificationAuthority { rid, index, now } => {
            let made = hsm.create_certification_authority(rid, index, at(now))?;
            respond(Reply::Bytes(made.key.bytes()));
            Ok(())
        }
        Request::CaPublicKey { rid, index } => {
            respond(Reply::Bytes(hsm.ca_public_key(rid, index)?.key.bytes()));
            Ok(())
        }
        Request::CreateMerchantAuthority { now } => {
            respond(Reply::Bytes(&hsm.create_merchant_authority(at(now))?.bytes()));
            Ok(())
        }
        Request::MerchantCaKey => {
            respond(Reply::Bytes(&hsm.merchant_ca_key()?.bytes()));
            Ok(())
        }
        Request::CreateAccessKeys { now } => {
            hsm.create_access_keys(at(now))?;
            respond(Reply::Nothing);
            Ok(())
        }
        Request::ClientAuthorities => {
            let certificates = hsm.client_authorities()?;
            let certificates: Vec<_> = certificates.into_iter().map(HexBytes).collect();
            let json = serde_json::to_vec(&certificates);
            let json =
                json.map_err(|_| HsmError::Internal { operation: "writing certificates" })?;
            respond(Reply::Bytes(&json));
            Ok(())
        }
        Request::RepetitionSecret => {
            respond(Reply::Bytes(hsm.repetition_secret()?.expose()));
            Ok(())
        }
        Request::CreateDocumentKeys { now } => {
            hsm.create_document_keys(at(now))?;
            respond(Reply::Nothing);
            Ok(())
        }
        Request::DocumentKeys { purpose } => {
            let keys = hsm.document_keys(document_purpose(purpose)?)?;
            let json = serde_json::to_vec(&keys);
            let json = json.map_err(|_| HsmError::Internal { operation: "writing public keys" })?;
            respond(Reply::Bytes(&json));
            Ok(())
        }
        Request::DemoKeys { issuer, index } => {
            let keys = hsm.demo_keys(IssuerId::from_bits(issuer), index)?;
            respond(Reply::Bytes(keys.issuer_master_key.expose()));
            Ok(())
        }
        _ => Err(unreadable()),
    }
}

fn document_purpose(place: u8) -> Result<DocumentPurpose, HsmError> {
    DocumentPurpose::ALL.get(usize::from(place)).copied().ok_or_else(unreadable)
}

fn sign(hsm: &dyn PaymentHsm, request: &Request<'_>, respond: Respond<'_>) -> Result<(), HsmError> {
    match *request {
        Request::IssueIssuerCertificate {
            issuer,
            rid,
            ca_index,
            issuer_identifier,
            expiry: (year, month, day),
            serial,
            now,
        } => {
            let certificate = hsm.issue_issuer_certificate(&IssuerCertificateRequest {
                issuer: IssuerId::from_bits(issuer),
                rid,
                ca_index,
                issuer_identifier,
                expiry: CertificateDate { year, month, day },
                serial,
                now: at(now),
            })?;
            respond(Reply::Bytes(&certificate.encode()));
        }
        Request::SignIccCertificate { issuer, public_key, sda_hash, serial, expires_at, now } => {
            let certificate = hsm.sign_icc_certificate(&IccCertificateRequest {
                issuer: IssuerId::from_bits(issuer),
                public_key: read(PublicX::from_bytes(&public_key))?,
                sda_hash,
                serial,
                expires_at: at(expires_at),
                now: at(now),
            })?;
            respond(Reply::Bytes(&certificate.encode()));
        }
        Request::SignMerchantCertificate {
            acquirer,
            merchant,
            terminal,
            name,
            public_key,
            serial,
            expires_at,
            now,
        } => {
            let public_key: &[u8; 64] = read(public_key.try_into())?;
            let certificate = hsm.sign_merchant_certificate(&MerchantCertificateRequest {
                acquirer,
                merchant,
                terminal,
                name: read(MerchantName::from_utf8(name.as_bytes()))?,
                public_key: read(PublicPoint::from_bytes(public_key))?,
                serial,
                expires_at: at(expires_at),
                now: at(now),
            })?;
            respond(Reply::Bytes(&certificate.encode()));
        }
        Request::SignClientCertificate {
            is_device,
            client,
            api_key,
            public_key,
            expires_at,
            now,
        } => {
            let public_key: &[u8; 64] = read(public_key.try_into())?;
            let certificate = hsm.sign_client_certificate(&ClientCertificateRequest {
                client: match is_device {
                    false => Client::Terminal(TerminalId::from_bits(client)),
                    true => Client::Device(DeviceId::from_bits(client)),
                },
                api_key: ApiKeyId::from_bits(api_key),
                public_key: read(PublicPoint::from_bytes(public_key))?,
                expires_at: at(expires_at),
                now: at(now),
            })?;
            respond(Reply::Bytes(&certificate));
        }
        Request::SignDocument { purpose, document } => {
            let signature = hsm.sign_document(document_purpose(purpose)?, document)?;
            respond(Reply::Bytes(&signature));
        }
        _ => return Err(unreadable()),
    }
    Ok(())
}

fn sealed_key(bytes: &[u8]) -> SealedPersonKey {
    SealedPersonKey(bytes.to_vec())
}

fn payload(encapsulated_key: &[u8], ciphertext: &[u8]) -> SealedPayload {
    SealedPayload {
        encapsulated_key: HexBytes(encapsulated_key.to_vec()),
        ciphertext: HexBytes(ciphertext.to_vec()),
    }
}

fn persons(
    hsm: &dyn PaymentHsm,
    request: &Request<'_>,
    respond: Respond<'_>,
) -> Result<(), HsmError> {
    let card_pin = |issuer, card| CardPinSubject {
        issuer: IssuerId::from_bits(issuer),
        card: CardId::from_bits(card),
    };
    match *request {
        Request::PersonKeyRecipient { issuer } => {
            respond(Reply::Bytes(&hsm.person_key_recipient(IssuerId::from_bits(issuer))?.0));
        }
        Request::AcceptPersonKey {
            issuer,
            token,
            generation,
            encapsulated_key,
            ciphertext,
            old,
        } => {
            let old = old.map(|(generation, key)| (generation, sealed_key(key)));
            let import = PersonKeyImport {
                subject: PersonKeySubject {
                    issuer: IssuerId::from_bits(issuer),
                    token: TokenId::from_bits(token),
                    generation,
                },
                sealed: &payload(encapsulated_key, ciphertext),
                old: old
                    .as_ref()
                    .map(|(generation, key)| PersonKeyInUse { generation: *generation, key }),
            };
            match hsm.accept_person_key(&import)? {
                PersonKeyVerdict::Accepted(key) => respond(Reply::Bytes(&key.0)),
                PersonKeyVerdict::WrongProof => respond(Reply::Nothing),
            }
        }
        Request::CardPinValue { issuer, card, encapsulated_key, ciphertext } => {
            let sealed = payload(encapsulated_key, ciphertext);
            respond(Reply::Bytes(&hsm.card_pin_value(card_pin(issuer, card), &sealed)?.0));
        }
        Request::VerifyCardPin {
            issuer,
            card,
            value,
            encapsulated_key,
            ciphertext,
            associated,
        } => {
            let sealed = payload(encapsulated_key, ciphertext);
            let (subject, value) = (card_pin(issuer, card), CardPinValue(value));
            respond(Reply::Boolean(hsm.verify_card_pin(subject, &value, &sealed, associated)?));
        }
        Request::StoreShare { issuer, device, epoch } => {
            let epoch = NonZeroU32::new(epoch).ok_or_else(unreadable)?;
            let (issuer, device) = (IssuerId::from_bits(issuer), DeviceId::from_bits(device));
            respond(Reply::Bytes(hsm.store_share(issuer, device, epoch)?.expose()));
        }
        _ => return Err(unreadable()),
    }
    Ok(())
}

fn records(
    hsm: &dyn PaymentHsm,
    request: &Request<'_>,
    respond: Respond<'_>,
) -> Result<(), HsmError> {
    match request {
        Request::SealCardRecord { issuer, owner, record } => {
            let issuer = IssuerId::from_bits(*issuer);
            respond(Reply::Bytes(&hsm.seal_card_record(issuer, record_owner(*owner), record)?.0));
        }
        Request::OpenCardRecord { issuer, owner, record, grant } => {
            let (issuer, owner) = (IssuerId::from_bits(*issuer), record_owner(*owner));
            let opened = open(hsm, issuer, owner, record, grant)?;
            respond(Reply::Bytes(opened.expose()));
        }
        Request::PanLookup { issuer, pan } => {
            let pan = read(pan.parse())?;
            respond(Reply::Bytes(&hsm.pan_lookup(IssuerId::from_bits(*issuer), &pan)?.0));
        }
        _ => return Err(unreadable()),
    }
    Ok(())
}

const fn record_owner(owner: Owner) -> RecordOwner {
    match owner {
        Owner::Card(card) => RecordOwner::Card(CardId::from_bits(card)),
        Owner::Token(token) => RecordOwner::Token(TokenId::from_bits(token)),
    }
}

fn open(
    hsm: &dyn PaymentHsm,
    issuer: IssuerId,
    owner: RecordOwner,
    record: &[u8],
    grant: &Grant<'_>,
) -> Result<Secret<Vec<u8>>, HsmError> {
    let record = SealedCardRecord(record.to_vec());
    match grant {
        Grant::Payment { token, input, cryptogram } => {
            let (token, input) = (TokenId::from_bits(*token), CryptogramInput::from(input));
            // The pool holds the proof itself, and no other process can write to this socket.
            let proof = read(cryptogram::verify(token, &input, cryptogram, |_| *cryptogram))?;
            hsm.open_card_record(issuer, owner, &record, &DetokenizationGrant::Payment(&proof))
        }
        Grant::Operator { actor, reason } => {
            let grant = DetokenizationGrant::Operator(OperatorGrant::new(actor, reason)?);
            hsm.open_card_record(issuer, owner, &record, &grant)
        }
        Grant::Personalisation { token } => {
            let grant = DetokenizationGrant::Personalisation(TokenId::from_bits(*token));
            hsm.open_card_record(issuer, owner, &record, &grant)
        }
    }
}
