//! GENERATE AC: the card decides, and signs what it decided on (Book C-8 3, Book E 4).

use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::channel::IadMacInput;
use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram};
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod, VerificationResults};
use tapfer_emv::merchant::MerchantProven;
use tapfer_emv::status::StatusWord;
use tapfer_emv::{tags, tlv};
use tapfer_payment_types::TokenId;

use super::asked::{Asked, AskedPayment};
use super::data_storage::{LAST, MORE_FOLLOW};
use super::dialogue::{Session, field, value_of};
use super::{Moment, Refusal};
use crate::effect::{Notification, ProvenMerchant};
use crate::keys::DrawnKey;
use crate::payment::PaymentAmount;
use crate::policy::{self, Ask, Decision, DeclineReason, PinStanding, TerminalDemand};
use crate::token::{Payment, Tap, Token};

/// What the terminal may ask for in P1. This card never approves offline: asked for a TC it answers
/// with an ARQC, as EMV Book 3, 9.3 lets it.
const ASKS_FOR_DECLINE: u8 = 0x00;
const ASKS_FOR_APPROVAL: u8 = 0x40;
const ASKS_FOR_ONLINE: u8 = 0x80;

/// High half byte of the restart indicator: present the card again (start B).
const PRESENT_AGAIN: u8 = 0x20;
/// Try another interface, the contact one.
const OTHER_INTERFACE_CONTACT: u8 = 0x31;
/// Message identifiers.
const SEE_PHONE: u8 = 0x20;
const TRY_ANOTHER_INTERFACE: u8 = 0x18;

/// What the terminal sent.
pub(super) struct Request {
    terminal_declines: bool,
    announces_data: bool,
    cdol1_values: Vec<u8>,
    amount: PaymentAmount,
    demand: TerminalDemand,
    input: CryptogramInput,
}

impl Request {
    /// Reads P1, P2 and the values of CDOL1.
    pub(super) fn read(
        token: &Token,
        session: &Session,
        command: &CommandApdu,
    ) -> Result<Self, Refusal> {
        let terminal_declines = match command.p1 {
            ASKS_FOR_DECLINE => true,
            ASKS_FOR_APPROVAL | ASKS_FOR_ONLINE => false,
            _ => return Err(StatusWord::INCORRECT_P1_P2.into()),
        };
        let announces_data = match command.p2 {
            MORE_FOLLOW => true,
            LAST => false,
            _ => return Err(StatusWord::INCORRECT_P1_P2.into()),
        };
        let cdol1 = DataObjectList::parse(&token.profile().cdol1)
            .map_err(|_| StatusWord::NO_PRECISE_DIAGNOSIS)?;
        if command.data.len() != cdol1.value_length() {
            return Err(StatusWord::WRONG_LENGTH.into());
        }
        let input = cryptogram_input(token, session, &cdol1, &command.data);
        let input = input.ok_or(StatusWord::WRONG_DATA)?;
        let amount = PaymentAmount::from_terminal(&input.amount_authorized, &input.currency)
            .ok_or(StatusWord::WRONG_DATA)?;
        let demand = TerminalDemand::from_risk_management_data(value_of(
            &cdol1,
            &command.data,
            tags::TERMINAL_RISK_MANAGEMENT_DATA,
        ));
        let cdol1_values = command.data.clone();
        Ok(Self { terminal_declines, announces_data, cdol1_values, amount, demand, input })
    }
}

/// Somebody asks for another payment than the one that the transaction began with, and that a merchant may
/// have proven: a terminal that lies, or someone in between.
pub(super) fn contradiction(
    token: &Token,
    session: &Session,
    command: &CommandApdu,
) -> Option<Refusal> {
    let cdol1 = DataObjectList::parse(&token.profile().cdol1).ok()?;
    let is_readable = command.data.len() == cdol1.value_length();
    if !is_readable || agrees_with_options(token, session, &cdol1, &command.data) {
        return None;
    }
    let merchant = session.merchant.as_ref();
    let name = merchant.map(|proven| String::from(proven.certificate().name.as_str()));
    let news = Notification::MerchantProofWrong { token: token.id(), name };
    Some(Refusal::with_news(StatusWord::CONDITIONS_NOT_SATISFIED, news))
}

/// Whether all that both lists ask for is what the transaction began with: amounts, currency, country,
/// date, type and unpredictable number. The merchant proof was about those.
fn agrees_with_options(
    token: &Token,
    session: &Session,
    cdol1: &DataObjectList,
    cdol1_values: &[u8],
) -> bool {
    let Ok(pdol) = DataObjectList::parse(&token.profile().pdol) else { return false };
    let (Some(first), Some(again)) = (pdol.split(&session.pdol_values), cdol1.split(cdol1_values))
    else {
        return false;
    };
    again.iter().all(|(tag, value)| {
        first.iter().filter(|(asked, _)| asked == tag).all(|(_, before)| before == value)
    })
}

/// What the cryptogram covers (Book E 4): 29 bytes from the terminal, AIP and counter from the card;
/// the issuer application data follows when its MAC is known.
fn cryptogram_input(
    token: &Token,
    session: &Session,
    cdol1: &DataObjectList,
    values: &[u8],
) -> Option<CryptogramInput> {
    let value = |tag| value_of(cdol1, values, tag);
    let [transaction_type] = field(value(tags::TRANSACTION_TYPE))?;
    Some(CryptogramInput {
        amount_authorized: field(value(tags::AMOUNT_AUTHORIZED))?,
        amount_other: field(value(tags::AMOUNT_OTHER))?,
        terminal_country: field(value(tags::TERMINAL_COUNTRY_CODE))?,
        tvr: field(value(tags::TERMINAL_VERIFICATION_RESULTS))?,
        currency: field(value(tags::TRANSACTION_CURRENCY_CODE))?,
        date: field(value(tags::TRANSACTION_DATE))?,
        transaction_type,
        unpredictable_number: field(value(tags::UNPREDICTABLE_NUMBER))?,
        aip: token.profile().aip,
        application_transaction_counter: session.application_transaction_counter,
        issuer_application_data: Vec::new(),
    })
}

/// What GENERATE AC comes to.
pub(super) struct Made {
    pub(super) answer: Vec<u8>,
    pub(super) news: Vec<Notification>,
    /// WRITE DATA may follow.
    pub(super) takes_data: bool,
}

/// Decides, draws a key for it, and makes the answer. The caller persists before it replies.
///
/// A decline is signed with a limited-use key like any other answer, and takes one of its payments,
/// but nothing of its total: no money moves. The cryptogram information data is not signed, so the
/// issuer must not go by it: a decline shows in the issuer application data.
pub(super) fn generate(
    token: &mut Token,
    session: &Session,
    request: &Request,
    asked: &mut Option<Asked>,
    moment: &Moment<'_>,
    rng: &mut impl CryptoRng,
) -> Result<Made, Refusal> {
    let decision = if request.terminal_declines {
        Decision::Decline(DeclineReason::TerminalDeclined)
    } else {
        decide(token, session, request, asked, moment, rng)
    };
    let charge = policy::charge(token.policy(), request.amount, decision);
    let id = token.id();
    let counter = session.application_transaction_counter;
    let payment = Payment { decision, charge_minor: charge, counter, device: *moment.device };
    let drawn = token.draw(&payment, token.clock(moment.now)).ok_or_else(|| {
        let status = StatusWord::CONDITIONS_NOT_SATISFIED;
        Refusal::with_news(status, Notification::no_keys(id, decision.key_class()))
    })?;
    let data = issuer_application_data(token, session, &drawn, decision, moment);
    let answer = answer(token, session, request, &drawn, decision, data);
    let takes_data = request.announces_data && decision.is_online();
    let mut news = alloc::vec![notification(token, session, request, decision)];
    news.extend(discouraged_unlock(token, decision, moment));
    Ok(Made { answer, news, takes_data })
}

/// Decides, and sees to it that what the person did for one payment serves no other: a terminal that
/// comes back with another amount, or another merchant's terminal, is sent away, and is not asked about
/// before the minute of the first question is over or the person has withdrawn from it.
fn decide(
    token: &mut Token,
    session: &Session,
    request: &Request,
    asked: &mut Option<Asked>,
    moment: &Moment<'_>,
    rng: &mut impl CryptoRng,
) -> Decision {
    let payment = AskedPayment {
        token: token.id(),
        amount: request.amount,
        merchant: session.merchant.as_ref().map(MerchantProven::identity),
    };
    let now = moment.now;
    let pin_is_entered = token.pin_standing(now) == PinStanding::Entered;
    let is_other =
        asked.as_ref().is_some_and(|asked| asked.is_about_other(&payment, pin_is_entered, now));
    if is_other {
        token.pin.forget();
    }
    let is_kept_out = asked.as_ref().is_some_and(|asked| asked.keeps_out(&payment, now));
    let tap = Tap {
        amount: request.amount,
        device: moment.device,
        terminal: request.demand,
        merchant_proven: session.merchant.is_some(),
        counter: session.application_transaction_counter,
        clock: token.clock(now),
    };
    let decision = match token.decide(&tap, rng) {
        Decision::Online { method: VerificationMethod::DeviceUnlock, .. } if is_other => {
            Decision::AskPerson(Ask::Unlock)
        }
        decision => decision,
    };
    match decision {
        Decision::AskPerson(_) if !is_kept_out => *asked = Some(Asked::about(payment, now)),
        _ if decision.is_online() && !is_other => *asked = None,
        _ => {}
    }
    decision
}

/// The issuer advises against some ways to unlock a phone: worth a word when one was relied on.
fn discouraged_unlock(
    token: &Token,
    decision: Decision,
    moment: &Moment<'_>,
) -> Option<Notification> {
    let method = moment.device.unlock_method;
    let by_lock =
        matches!(decision, Decision::Online { method: VerificationMethod::DeviceUnlock, .. });
    let is_discouraged = token.policy().discouraged_unlock.contains(&method);
    (by_lock && is_discouraged)
        .then(|| Notification::DiscouragedUnlock { token: token.id(), method })
}

/// What the issuer is told about phone, person and tap.
fn issuer_application_data(
    token: &Token,
    session: &Session,
    drawn: &DrawnKey,
    decision: Decision,
    moment: &Moment<'_>,
) -> IssuerApplicationData {
    let method = match decision {
        Decision::Online { method, .. } => method,
        Decision::AskAtTerminal => VerificationMethod::TerminalPin,
        Decision::AskPerson(_) | Decision::Decline(_) => VerificationMethod::None,
    };
    IssuerApplicationData {
        derivation_key_index: drawn.derivation_key_index,
        results: VerificationResults {
            method,
            screen_on: moment.device.screen_on,
            unlocked: moment.device.is_unlocked(),
            declined: !decision.is_online(),
            key_class: decision.key_class(),
            relay_checked: session.relay.last().is_some(),
            integrity_verdict: moment.device.integrity_verdict,
        },
        key_index: drawn.index,
        policy_version: token.policy().version,
        merchant_identity: session.merchant.as_ref().map(MerchantProven::identity),
        iad_mac: [0; 8],
    }
}

/// Cryptogram information data `9F27`: AAC or ARQC. A TC this card never gives.
const fn cryptogram_information(decision: Decision) -> u8 {
    if decision.is_online() { 0x80 } else { 0x00 }
}

/// Cardholder verification decision `9F8102`: no CVM, online PIN, CDCVM, not applicable, or failed.
const fn verification_decision(decision: Decision) -> u8 {
    match decision {
        Decision::Online { method: VerificationMethod::None, .. } => 0x00,
        Decision::AskAtTerminal => 0x02,
        Decision::Online { .. } => 0x03,
        Decision::Decline(_) | Decision::AskPerson(Ask::TurnScreenOn) => 0x0F,
        Decision::AskPerson(_) => 0xFF,
    }
}

/// Restart indicator `9F8108` (Book C-8 annex A): what the terminal does next, and its message. "See
/// phone" and tap again, if the person has to do something first. The card's chip, if the terminal has
/// no PIN pad for taps: the phone has no chip to insert, but whoever holds it may have the card.
const fn restart_indicator(decision: Decision) -> Option<[u8; 2]> {
    match decision {
        Decision::AskPerson(_) => Some([PRESENT_AGAIN, SEE_PHONE]),
        Decision::Decline(DeclineReason::TerminalTakesNoPin) => {
            Some([OTHER_INTERFACE_CONTACT, TRY_ANOTHER_INTERFACE])
        }
        _ => None,
    }
}

/// The answer, in the order in which the IAD-MAC covers it (Book E 8.5). The IAD travels with zeros
/// where its MAC belongs, and is signed with the MAC in place; where that is, `9F8107` says in the
/// records.
fn answer(
    token: &Token,
    session: &Session,
    request: &Request,
    drawn: &DrawnKey,
    decision: Decision,
    mut data: IssuerApplicationData,
) -> Vec<u8> {
    let counter = session.application_transaction_counter;
    let mut before = Vec::new();
    tlv::write(&mut before, tags::CRYPTOGRAM_INFORMATION_DATA, &[cryptogram_information(decision)]);
    tlv::write(&mut before, tags::APPLICATION_TRANSACTION_COUNTER, &counter.to_be_bytes());
    let mut behind = tlv::encode(tags::ISSUER_APPLICATION_DATA, &data.encode());
    let verification = [verification_decision(decision)];
    tlv::write(&mut behind, tags::CARDHOLDER_VERIFICATION_DECISION, &verification);

    if let Some(indicator) = restart_indicator(decision) {
        tlv::write(&mut behind, tags::RESTART_INDICATOR, &indicator);
    }

    let iad_mac = session.channel.iad_mac(&IadMacInput {
        pdol_values: &session.pdol_values,
        cdol1_values: &request.cdol1_values,
        relay_resistance: session
            .relay
            .last()
            .map(|exchange| (&exchange.terminal_entropy, &exchange.answer)),
        generate_ac_tlvs: &[before.as_slice(), &behind].concat(),
        sda_hash: &token.profile().sda_hash(),
    });
    data.iad_mac = iad_mac;
    let mut input = request.input.clone();
    input.issuer_application_data = data.encode().to_vec();
    let cryptogram = application_cryptogram(&drawn.session_key, &input.encode());

    let mut content = before;
    tlv::write(&mut content, tags::APPLICATION_CRYPTOGRAM, &cryptogram);
    content.extend_from_slice(&behind);
    tlv::write(&mut content, tags::EDA_MAC, &session.channel.eda_mac(&cryptogram, &iad_mac));
    tlv::encode(tags::RESPONSE_TEMPLATE_FORMAT_2, &content)
}

fn notification(
    token: &Token,
    session: &Session,
    request: &Request,
    decision: Decision,
) -> Notification {
    let (token, amount) = (token.id(), request.amount);
    let merchant = session.merchant.as_ref().map(ProvenMerchant::from);
    match decision {
        Decision::Online { method, .. } => sent(token, session, amount, method),
        Decision::AskAtTerminal => sent(token, session, amount, VerificationMethod::TerminalPin),
        Decision::AskPerson(ask) => Notification::PersonNeeded { token, amount, ask, merchant },
        Decision::Decline(reason) => {
            Notification::PaymentDeclined { token, amount, reason, merchant }
        }
    }
}

fn sent(
    token: TokenId,
    session: &Session,
    amount: PaymentAmount,
    verification: VerificationMethod,
) -> Notification {
    Notification::PaymentSent {
        token,
        amount,
        verification,
        application_transaction_counter: session.application_transaction_counter,
        merchant: session.merchant.as_ref().map(ProvenMerchant::from),
    }
}
