//! A real phone and a real till: the wallet answers as a card, and the terminal's kernel speaks to it.

use std::convert::Infallible;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::{TryCryptoRng, TryRng, UnwrapErr};
use serde_json::{Value, json};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::PublicX;
use tapfer_payment_types::messages::PinStatus;
use tapfer_payment_types::{Currency, Money, Timestamp, TokenId};
use tapfer_terminal::kernel8::{KernelConfiguration, RevokedCertificate};
use tapfer_terminal::{Arming, TapAction, TapEnd, Terminal, TerminalConfiguration};
use tapfer_wallet::pin::PinHardness;
use tapfer_wallet::{Card, DeviceState, Effect, Notification, Wallet};

/// Above this the till asks for the person.
const TILL_LIMIT: Money = Money::new(2_500, Currency::EUR);

/// A phone in somebody's hand. Its memory is lost with the test.
pub(crate) struct Phone {
    pub(crate) card: Card,
    pub(crate) device: DeviceState,
    /// What chance says when the policy asks it.
    pub(crate) chance: Chance,
    /// What the card told the app during the last tap.
    pub(crate) news: Vec<Notification>,
}

impl Phone {
    pub(crate) fn new() -> Self {
        let device = DeviceState { screen_on: true, unlocked: false, ..DeviceState::default() };
        Self::holding(Wallet::new(&mut random()), device)
    }

    fn holding(wallet: Wallet, device: DeviceState) -> Self {
        Self { card: Card::new(wallet), device, chance: Chance::Real, news: Vec::new() }
    }

    /// What a thief of its memory has.
    pub(crate) fn copy(&mut self) -> Self {
        let wallet = self.card.wallet_mut().snapshot().unwrap().restore().unwrap();
        Self::holding(wallet, self.device)
    }

    /// The wallet between taps.
    pub(crate) fn wallet(&mut self) -> &mut Wallet {
        self.card.wallet_mut()
    }

    /// A phone with this wallet.
    pub(crate) fn with(wallet: Wallet) -> Self {
        Self::holding(wallet, Self::new().device)
    }

    pub(crate) fn public_key(&self) -> String {
        hex(&self.card.wallet().device_public_key())
    }

    pub(crate) fn replenish_request(&mut self, token: TokenId) -> Value {
        json!(self.card.wallet_mut().replenish_request(token, &mut random()))
    }

    pub(crate) fn accept(&mut self, token: TokenId, answer: &Value, now: Timestamp) {
        let sealed = serde_json::from_value(answer.clone()).unwrap();
        self.card.wallet_mut().accept(token, &sealed, now).unwrap();
    }

    /// What the phone sends when its owner chooses a PIN.
    pub(crate) fn new_pin(&mut self, token: TokenId, new: &str, old: Option<&str>) -> Value {
        let (new, old) = (new.parse().unwrap(), old.map(|old| old.parse().unwrap()));
        // As little as Argon2id allows: the tests are about who counts.
        let hardness = PinHardness { memory_kib: 8, passes: 1, lanes: 1 };
        let wallet = self.card.wallet_mut();
        json!(wallet.set_pin(token, &new, old.as_ref(), hardness, &mut random()).unwrap().0)
    }

    /// The platform's answer to that: it took the new key, or the old PIN was wrong.
    pub(crate) fn hear_pin_status(&mut self, token: TokenId, request: &Value, status: &Value) {
        let taken = status["generation"] == request["generation"];
        let status: PinStatus = serde_json::from_value(status.clone()).unwrap();
        let wallet = self.card.wallet_mut();
        let heard = if taken {
            wallet.pin_answered(token, status)
        } else {
            wallet.pin_refused(token, status)
        };
        heard.unwrap();
    }

    pub(crate) fn enter_pin(&mut self, token: TokenId, pin: &str, now: Timestamp) {
        self.card.wallet_mut().enter_pin(token, &pin.parse().unwrap(), now).unwrap();
    }

    pub(crate) fn answer(&mut self, command: &[u8], now: Timestamp) -> Vec<u8> {
        let mut reply = None;
        for effect in self.card.handle(command, now, &mut self.chance, &self.device) {
            match effect {
                Effect::Persist(_) => {}
                Effect::Reply(response) => reply = Some(response.encode()),
                Effect::Notify(news) => self.news.push(news),
            }
        }
        reply.expect("a card answers")
    }
}

/// What stands behind "one payment in so many": real randomness, or what a test wants. Everything else is
/// random in any case.
#[derive(Clone, Copy)]
pub(crate) enum Chance {
    Real,
    /// It asks every time.
    Always,
    /// It never asks.
    Never,
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        random().try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match self {
            Self::Real => random().try_next_u64(),
            Self::Always => Ok(0),
            Self::Never => Ok(1),
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        random().try_fill_bytes(out)
    }
}

impl TryCryptoRng for Chance {}

/// A terminal as it is set up in a shop: it trusts whom the platform trusts.
pub(crate) struct Till(pub(crate) TerminalConfiguration);

impl Till {
    pub(crate) fn trusting(trust: &Value) -> Self {
        let aid = unhex(&trust["issuers"][0]["aid"]);
        let mut application = KernelConfiguration::attended(&aid, 276, TILL_LIMIT).unwrap();
        let revoked = trust["revoked_certificates"].as_array().unwrap().iter();
        application.revoked_certificates = revoked.map(revoked_certificate).collect();
        Self(TerminalConfiguration::new([application], TILL_LIMIT.currency, vec![authority(trust)]))
    }

    /// The same till with a PIN pad.
    pub(crate) fn with_pin_pad(trust: &Value) -> Self {
        let aid = unhex(&trust["issuers"][0]["aid"]);
        let mut application = KernelConfiguration::attended(&aid, 276, TILL_LIMIT).unwrap();
        // As in profiles/terminal/pin-pad.toml.
        application.cvm_capability_required = 0x44;
        application.cvm_capability_not_required = 0x4C;
        Self(TerminalConfiguration::new([application], TILL_LIMIT.currency, vec![authority(trust)]))
    }

    /// Holds the phone to the till; gives the chip data (hex) of the one question to the platform.
    pub(crate) fn tap(
        &self,
        phone: &mut Phone,
        intent: &str,
        minor: i64,
        now: Timestamp,
    ) -> String {
        let asked = self.try_tap(phone, intent, minor, now);
        asked.unwrap_or_else(|| panic!("the phone does not pay: {:?}", phone.news))
    }

    /// As [`Till::tap`]; nothing if the platform is not asked.
    pub(crate) fn try_tap(
        &self,
        phone: &mut Phone,
        intent: &str,
        minor: i64,
        now: Timestamp,
    ) -> Option<String> {
        let amount = Money::new(minor, Currency::EUR);
        let arming = Arming::new(intent.parse().unwrap(), amount, now.plus_seconds(60)).unwrap();
        let armed = Terminal::new(self.0.clone()).arm(arming).unwrap();
        let mut tap = armed.tap(now).unwrap();
        phone.news.clear();
        while let TapAction::Transmit(command) = tap.poll() {
            let answer = phone.answer(&command.encode().unwrap(), now);
            tap = tap.handle_response(&answer, Duration::from_millis(5), &mut random());
        }
        phone.card.deselect();
        match tap.finish() {
            TapEnd::Online(payment) => Some(hex(payment.request().chip_data())),
            TapEnd::AskPin(entry) => Some(hex(entry.without_pin().request().chip_data())),
            TapEnd::Decided { .. } | TapEnd::Undecided { .. } => None,
        }
    }
}

/// An entry of the revocation list in `/v1/trust`.
fn revoked_certificate(entry: &Value) -> RevokedCertificate {
    RevokedCertificate {
        rid: unhex(&entry["rid"]).try_into().unwrap(),
        ca_index: u8::try_from(entry["ca_index"].as_u64().unwrap()).unwrap(),
        serial: unhex(&entry["serial"]).try_into().unwrap(),
    }
}

/// The certification authority that `/v1/trust` names.
pub(crate) fn authority(trust: &Value) -> CaPublicKey {
    CaPublicKey {
        rid: unhex(&trust["rid"]).try_into().unwrap(),
        index: u8::try_from(trust["ca_index"].as_u64().unwrap()).unwrap(),
        key: PublicX::from_bytes(&unhex(&trust["ca_public_key_x"]).try_into().unwrap()).unwrap(),
    }
}

pub(crate) fn random() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

pub(crate) fn unhex(text: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_str().unwrap().as_bytes()).unwrap()
}
