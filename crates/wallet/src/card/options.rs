//! GET PROCESSING OPTIONS: the transaction begins. The channel is set up and the transaction counter
//! rises (Book C-8 3, Book E 7).

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::channel::SecureChannel;
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::status::StatusWord;
use tapfer_emv::{tags, tlv};

use super::dialogue::{Session, field, value_of};
use super::merchant::{self, Credential};
use super::relay::RelayCheck;
use super::{Moment, Refusal};
use crate::effect::Notification;
use crate::payment::PaymentAmount;
use crate::policy::{self, Ask, Decision};
use crate::token::Token;

/// Version of the kernel qualifier that this card knows.
const QUALIFIER_VERSION: u8 = 0x02;
/// Bit of the kernel qualifier: local authentication enabled.
const LOCAL_AUTHENTICATION: u8 = 0x80;
/// Secure channel suite: P-256, AES, CMAC.
const CHANNEL_SUITE: u8 = 0x00;
/// Certificate suite: EC-SDSA over P-256 with SHA-256.
const CERTIFICATE_SUITE: u8 = 0x10;

/// What the terminal sent, as far as the card has to understand it.
pub(super) struct Request {
    pdol: DataObjectList,
    pdol_values: Vec<u8>,
    qualifier: [u8; 8],
    kernel_key: [u8; 64],
    amount: PaymentAmount,
}

impl Request {
    /// Reads the command's data: template `83` around the values of the PDOL.
    pub(super) fn read(token: &Token, command: &CommandApdu) -> Result<Self, Refusal> {
        if (command.p1, command.p2) != (0x00, 0x00) {
            return Err(StatusWord::INCORRECT_P1_P2.into());
        }
        Self::from_data(&token.profile().pdol, &command.data)
            .ok_or_else(|| StatusWord::WRONG_DATA.into())
    }

    fn from_data(pdol: &[u8], data: &[u8]) -> Option<Self> {
        let template = tlv::parse_one(data).ok()?;
        let values = (template.tag == tags::COMMAND_TEMPLATE).then_some(template.value)?;
        let list = DataObjectList::parse(pdol).ok()?;
        let value = |tag| value_of(&list, values, tag);
        let currency = value(tags::TRANSACTION_CURRENCY_CODE).unwrap_or_default();
        Some(Self {
            qualifier: field(value(tags::KERNEL_QUALIFIER))?,
            kernel_key: field(value(tags::KERNEL_KEY_DATA))?,
            amount: PaymentAmount::from_terminal(value(tags::AMOUNT_AUTHORIZED)?, currency)?,
            pdol_values: values.to_vec(),
            pdol: list,
        })
    }

    /// Whether kernel and card have the channel's suite in common, and, if the kernel wants to
    /// authenticate the card, the certificates' as well.
    fn suites_fit(&self) -> bool {
        let [version, options, channel, first, second, third, _, _] = self.qualifier;
        let certificates_fit = options & LOCAL_AUTHENTICATION == 0
            || [first, second, third].contains(&CERTIFICATE_SUITE);
        version == QUALIFIER_VERSION && channel == CHANNEL_SUITE && certificates_fit
    }
}

/// Begins the transaction: everything that could refuse it comes first, so that only an answered
/// command takes a counter value. The caller persists before it replies.
pub(super) fn begin(
    token: &mut Token,
    credential: Credential,
    request: Request,
    moment: &Moment<'_>,
    rng: &mut impl CryptoRng,
) -> Result<(Box<Session>, Vec<u8>), Refusal> {
    check_readiness(token, request.amount, moment)?;
    let merchant = merchant::verify(token.id(), credential, &request.pdol, &request.pdol_values)?;
    if !request.suites_fit() {
        return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
    }
    let counter = token.next_counter().ok_or(StatusWord::CONDITIONS_NOT_SATISFIED)?;
    let kernel_key =
        PublicPoint::from_bytes(&request.kernel_key).map_err(|_| StatusWord::WRONG_DATA)?;
    let (channel, card_key_data) = SecureChannel::card(&token.icc_key, &kernel_key, rng)
        .map_err(|_| StatusWord::CONDITIONS_NOT_SATISFIED)?;
    token.begin_transaction(counter);
    let session = Session {
        token: token.id(),
        application_transaction_counter: counter,
        channel,
        pdol_values: request.pdol_values,
        relay: RelayCheck::default(),
        merchant,
    };
    Ok((Box::new(session), answer(token, &card_key_data)))
}

/// Whether the phone can pay at all; if not, the app says what to do about it.
fn check_readiness(
    token: &Token,
    amount: PaymentAmount,
    moment: &Moment<'_>,
) -> Result<(), Refusal> {
    let refuse = |news| Err(Refusal::with_news(StatusWord::CONDITIONS_NOT_SATISFIED, news));
    let id = token.id();
    let Some(counter) = token.next_counter() else {
        return refuse(Notification::CounterExhausted { token: id });
    };
    let clock = token.clock(moment.now);
    if token.has_expired(clock.latest) {
        return refuse(Notification::CertificateExpired { token: id });
    }
    // A dark phone in a bag answers no reader, and spends no counter value on it.
    let decision = token.foresee(amount, moment.device, clock);
    if decision == Decision::AskPerson(Ask::TurnScreenOn) {
        return refuse(Notification::ScreenOff { token: id });
    }
    let charge = policy::charge(token.policy(), amount, decision);
    if !token.can_pay(decision, charge, counter, clock.latest) {
        return refuse(Notification::no_keys(id, decision.key_class()));
    }
    Ok(())
}

fn answer(token: &Token, card_key_data: &[u8; 64]) -> Vec<u8> {
    let profile = token.profile();
    let mut content = Vec::new();
    tlv::write(&mut content, tags::APPLICATION_INTERCHANGE_PROFILE, &profile.aip);
    tlv::write(&mut content, tags::APPLICATION_FILE_LOCATOR, &profile.application_file_locator());
    tlv::write(&mut content, tags::CDOL1, &profile.cdol1);
    tlv::write(&mut content, tags::CARD_KEY_DATA, card_key_data);
    tlv::encode(tags::RESPONSE_TEMPLATE_FORMAT_2, &content)
}
