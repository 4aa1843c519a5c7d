//! A till and its terminal: what a merchant's software does around a tap, over the platform's API.

use std::time::Duration;

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::PublicX;
use tapfer_emv::{tags, tlv};
use tapfer_payment_types::configuration::{CardAuthority, RevokedIssuerCertificate, TerminalTrust};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{AuthorizationId, Money, PaymentIntentId};
use tapfer_terminal::kernel8::{KernelConfiguration, RevokedCertificate};
use tapfer_terminal::{
    Armed, Arming, AuthorizationRequest, HostDecision, PinRecipient, Terminal,
    TerminalConfiguration,
};

use crate::amount::money_json;
use crate::client::{Client, text_of};
use crate::clock;
use crate::configuration_file::ConfigurationFile;
use crate::context::{Context, segment};

/// How long a terminal waits for a card: as long as the platform keeps it armed.
const ARMED_SECONDS: i64 = 300;

/// A merchant's till with one terminal.
pub(crate) struct Till {
    /// Speaks for the merchant.
    pub(crate) merchant: Client,
    /// Speaks for the terminal.
    pub(crate) terminal: Client,
    /// Which terminal.
    pub(crate) terminal_id: String,
}

/// Whom a terminal trusts and which applications it takes, as the platform publishes it.
pub(crate) struct Trust {
    /// The certification authorities of the platform and of its issuers.
    pub(crate) ca_keys: Vec<CaPublicKey>,
    /// Application identifiers of the platform's issuers, each once.
    pub(crate) applications: Vec<Vec<u8>>,
    /// Where PINs are sealed to that are entered at the terminal: one an issuer, without those whose certificate
    /// or key cannot be read.
    pub(crate) pin_recipients: Vec<PinRecipient>,
    /// Issuer certificates that are not trusted any more.
    pub(crate) revoked: Vec<RevokedCertificate>,
}

impl Trust {
    /// Asks the platform for its signed configuration, and takes what is newer than what the file remembers.
    pub(crate) fn fetch(
        context: &Context,
        client: &Client,
        file: &ConfigurationFile,
    ) -> anyhow::Result<Self> {
        Self::of(&file.newest(context, client)?)
    }

    /// What the platform signed.
    fn of(trust: &TerminalTrust) -> anyhow::Result<Self> {
        let (mut applications, mut pin_recipients) = (Vec::new(), Vec::new());
        for issuer in &trust.issuers {
            // One that cannot be read takes PINs from the cards of that issuer, and nothing from anybody else.
            pin_recipients.extend(PinRecipient::new(&issuer.certificate.0, &issuer.pin_key.0).ok());
            if !applications.contains(&issuer.aid.0) {
                applications.push(issuer.aid.0.clone());
            }
        }
        if applications.is_empty() {
            bail!("the platform has no issuer yet: run `tapfer init` or `tapfer issuer create`");
        }
        Ok(Self {
            ca_keys: trust.authorities.iter().map(authority).collect::<anyhow::Result<_>>()?,
            applications,
            pin_recipients,
            revoked: trust
                .revoked_certificates
                .iter()
                .map(revoked)
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

fn authority(authority: &CardAuthority) -> anyhow::Result<CaPublicKey> {
    Ok(CaPublicKey {
        rid: array(&authority.rid)?,
        index: authority.ca_index,
        key: PublicX::from_bytes(&array(&authority.public_key_x)?)?,
    })
}

fn revoked(revoked: &RevokedIssuerCertificate) -> anyhow::Result<RevokedCertificate> {
    Ok(RevokedCertificate {
        rid: array(&revoked.rid)?,
        ca_index: revoked.ca_index,
        serial: array(&revoked.serial)?,
    })
}

/// Where the PINs of an issuer's cards are sealed to, by its entry in `/v1/trust`.
pub(crate) fn pin_recipient(issuer: &Value) -> anyhow::Result<PinRecipient> {
    let HexBytes(certificate) = text_of(issuer, "certificate")?.try_into()?;
    let HexBytes(key) = text_of(issuer, "pin_key")?.try_into()?;
    Ok(PinRecipient::new(&certificate, &key)?)
}

fn array<const LENGTH: usize>(bytes: &HexBytes) -> anyhow::Result<[u8; LENGTH]> {
    let array = bytes.0.as_slice().try_into().ok();
    array.context("a value of the platform has a wrong length")
}

/// A terminal set-up for these applications.
pub(crate) fn configuration(
    applications: &[Vec<u8>],
    ca_public_keys: Vec<CaPublicKey>,
    country: u16,
    verification_limit: Money,
) -> anyhow::Result<TerminalConfiguration> {
    let applications = applications
        .iter()
        .map(|aid| KernelConfiguration::attended(aid, country, verification_limit))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(TerminalConfiguration::new(applications, verification_limit.currency, ca_public_keys))
}

/// Adds the platform's revocation list to what the terminal was set up with.
pub(crate) fn revoke(configuration: &mut TerminalConfiguration, revoked: &[RevokedCertificate]) {
    for application in &mut configuration.applications {
        application.kernel.revoked_certificates.extend_from_slice(revoked);
    }
}

/// A terminal armed for one payment.
pub(crate) fn arm(
    configuration: TerminalConfiguration,
    intent: PaymentIntentId,
    amount: Money,
) -> anyhow::Result<Terminal<Armed>> {
    let arming = Arming::new(intent, amount, clock::now().plus_seconds(ARMED_SECONDS))?;
    Terminal::new(configuration).arm(arming).map_err(|refused| refused.error.into())
}

impl Till {
    /// Says what is to be paid.
    pub(crate) fn create_intent(
        &self,
        amount: Money,
        reference: Option<&str>,
        capture_method: &str,
    ) -> anyhow::Result<PaymentIntentId> {
        let mut body = money_json(amount);
        if let Some(fields) = body.as_object_mut() {
            fields.insert("capture_method".to_owned(), json!(capture_method));
            if let Some(reference) = reference {
                fields.insert("reference".to_owned(), json!(reference));
            }
        }
        let created = self.merchant.post("/v1/payment-intents", &body)?;
        Ok(text_of(&created, "id")?.parse()?)
    }

    /// Arms the terminal at the platform.
    pub(crate) fn arm(&self, intent: PaymentIntentId) -> anyhow::Result<()> {
        let path = format!("/v1/payment-intents/{}/arm", segment(&intent.to_string()));
        self.merchant.post(&path, &json!({ "terminal": self.terminal_id }))?;
        Ok(())
    }

    /// Gives a payment up, so that the terminal is free again.
    pub(crate) fn cancel(&self, intent: PaymentIntentId) -> anyhow::Result<()> {
        let path = format!("/v1/payment-intents/{}/cancel", segment(&intent.to_string()));
        self.merchant.post(&path, &json!({}))?;
        Ok(())
    }

    /// Puts the question of a tap to the platform, again and again until `patience` is over. The
    /// idempotency key follows from payment and transaction counter: a till that lost its memory in between asks
    /// the same question, not another one. With a PIN it does not: a PIN that is sealed again is another
    /// question, which the platform refuses under the key of the first (422), and `payment show` tells how that ended.
    ///
    /// # Errors
    /// As [`Client::post_patiently`].
    pub(crate) fn authorize(
        &self,
        request: &AuthorizationRequest,
        patience: Duration,
    ) -> anyhow::Result<Value> {
        let intent = request.payment_intent();
        let counter = tlv::find(request.chip_data(), tags::APPLICATION_TRANSACTION_COUNTER)?;
        let key = format!("{intent}-{}", HEXLOWER.encode(counter.unwrap_or_default()));
        let mut question = question(intent, request.chip_data());
        if let (Some(fields), Some(pin)) = (question.as_object_mut(), request.online_pin()) {
            fields.insert("online_pin".to_owned(), json!(pin));
        }
        self.ask(&question, &key, patience)
    }

    /// Asks about chip data as it is given.
    pub(crate) fn ask(
        &self,
        question: &Value,
        idempotency_key: &str,
        patience: Duration,
    ) -> anyhow::Result<Value> {
        self.terminal.post_patiently("/v1/authorizations", question, idempotency_key, patience)
    }
}

/// The body of an authorization.
pub(crate) fn question(intent: PaymentIntentId, chip_data: &[u8]) -> Value {
    json!({ "payment_intent": intent, "chip_data": HEXLOWER.encode(chip_data) })
}

/// The platform's answer as the terminal takes it: about this payment and this amount, or about nothing that
/// may stand on its receipt.
///
/// # Errors
/// It is about something else, or can't be read.
pub(crate) fn host_decision(
    asked: (PaymentIntentId, Money),
    answer: &Value,
) -> anyhow::Result<HostDecision> {
    if decided(answer)? != asked {
        bail!(
            "the platform decided on another payment or amount than it was asked about: give nothing \
             away, and ask with `tapfer payment show {}`",
            asked.0
        );
    }
    let authorization: AuthorizationId = text_of(answer, "id")?.parse()?;
    Ok(match text_of(answer, "outcome")?.as_str() {
        "approved" => HostDecision::Approved { authorization },
        _ => HostDecision::Declined {
            authorization: Some(authorization),
            reason: text_of(answer, "reason_text")?,
        },
    })
}

/// Which payment and how much an answer is about.
fn decided(answer: &Value) -> anyhow::Result<(PaymentIntentId, Money)> {
    let minor = answer.get("amount").and_then(Value::as_i64).context("the answer has no amount")?;
    let amount = Money::new(minor, text_of(answer, "currency")?.parse()?);
    Ok((text_of(answer, "payment_intent")?.parse()?, amount))
}

#[cfg(test)]
mod tests {
    use super::{Trust, host_decision};
    use serde_json::{Value, json};
    use tapfer_payment_types::configuration::{CardAuthority, CardIssuer, TerminalTrust};
    use tapfer_payment_types::messages::HexBytes;
    use tapfer_payment_types::{AuthorizationId, Currency, Money, PaymentIntentId, Timestamp};
    use tapfer_terminal::HostDecision;

    /// Attack: whoever answers in the platform's place, or mixes its answers up, has the till print a receipt over
    /// something that nobody paid.
    #[test]
    fn attack_amount_or_payment_changed_in_the_answer() {
        let at = Timestamp::from_unix_millis(1_790_000_000_000);
        let intent = |last| PaymentIntentId::new(at, [last; 10]);
        let asked = (intent(1), Money::new(1_234, Currency::EUR));
        let id = AuthorizationId::new(at, [7; 10]);
        let answer = |changed: Value| {
            let mut answer = json!({
                "id": id, "outcome": "approved", "payment_intent": asked.0, "amount": 1_234, "currency": "EUR",
            });
            let fields = answer.as_object_mut().unwrap();
            fields.extend(changed.as_object().unwrap().clone());
            host_decision(asked, &answer)
        };
        assert!(matches!(answer(json!({})).unwrap(), HostDecision::Approved { .. }));
        for changed in [
            json!({ "amount": 123 }),
            json!({ "amount": null }),
            json!({ "currency": "USD" }),
            json!({ "payment_intent": intent(2) }),
        ] {
            assert!(answer(changed.clone()).is_err(), "{changed}");
        }
    }

    #[test]
    fn an_issuer_that_cannot_be_read_stops_no_other_payment() {
        let x = "70868BC787242203506001F70CA6E77552D0D6B9F711A29D6956E367AC919531";
        let bytes = |digits: &str| HexBytes::try_from(digits.to_owned()).unwrap();
        let trust = |certificate: &str| {
            Trust::of(&TerminalTrust {
                authorities: vec![CardAuthority {
                    rid: bytes("F000000001"),
                    ca_index: 0xE0,
                    public_key_x: bytes(x),
                }],
                issuers: vec![CardIssuer {
                    aid: bytes("F00000000101"),
                    certificate: bytes(certificate),
                    pin_key: bytes("04"),
                }],
                revoked_certificates: vec![],
            })
        };
        let read = trust("00").unwrap();
        assert_eq!((read.applications.len(), read.pin_recipients.len()), (1, 0));
    }
}
