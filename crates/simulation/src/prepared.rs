//! The world before the story begins: a realm with an issuer, cards with money, phones with keys, merchants with tills.
//! Made once, and copied for each seed.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::PublicX;
use tapfer_payment_types::{
    CardId, Currency, IssuerId, MerchantId, Money, TerminalId, Timestamp, TokenId,
};
use tapfer_server::clock::SharedClock;
use tapfer_server::in_process::{Call, InProcess, Surroundings};
use tapfer_server::{Realm, RealmKind, RealmPaths};
use tapfer_terminal::TerminalConfiguration;
use tapfer_terminal::kernel8::KernelConfiguration;
use tapfer_wallet::Wallet;
use tapfer_wallet::store::Snapshot;
use tempfile::TempDir;

use crate::SimulationError;
use crate::chance::{Chance, SeededEntropy};
use crate::clock::MachineClock;
use crate::faults::Machine;
use crate::node::unlock;
use crate::phone::Phone;
use crate::world::scratch;

/// When every story begins.
const BEGINNING: (u16, u8, u8, u8, u8) = (2026, 11, 23, 9, 0);
/// The money on each card, minor units: so little that it runs out.
const ON_THE_CARDS: [i64; 3] = [4_000, 2_000, 3_000];
/// Whose card each phone pays with; the first two share one.
const CARD_OF_PHONE: [usize; 4] = [0, 0, 1, 2];
/// Whose each till is.
const MERCHANT_OF_TILL: [usize; 3] = [0, 0, 1];
/// Above this a till asks for the person.
const TILL_LIMIT: Money = Money::new(2_500, Currency::EUR);
const GERMANY: u16 = 276;

/// A merchant, and its key.
pub(crate) struct MerchantSetUp {
    pub(crate) id: MerchantId,
    pub(crate) key: String,
}

/// A till, its key, and whose it is.
pub(crate) struct TillSetUp {
    pub(crate) id: TerminalId,
    pub(crate) key: String,
    pub(crate) merchant: usize,
}

/// A phone: which token of which card it has, its key, and what it keeps.
pub(crate) struct PhoneSetUp {
    pub(crate) token: TokenId,
    pub(crate) card: usize,
    pub(crate) key: String,
    pub(crate) kept: Snapshot,
}

/// A world that waits for its story.
pub struct Prepared {
    _directory: TempDir,
    pub(crate) home: PathBuf,
    pub(crate) beginning: Timestamp,
    pub(crate) issuer: IssuerId,
    pub(crate) issuer_key: String,
    pub(crate) cards: Vec<CardId>,
    pub(crate) phones: Vec<PhoneSetUp>,
    pub(crate) merchants: Vec<MerchantSetUp>,
    pub(crate) tills: Vec<TillSetUp>,
    pub(crate) till: TerminalConfiguration,
}

/// The money that was on each card when the story began, and its name in the books.
pub(crate) fn opening(card: usize) -> (i64, String) {
    (ON_THE_CARDS.get(card).copied().unwrap_or(0), format!("opening of card {card}"))
}

impl Prepared {
    /// Makes one, in a directory that goes away with it.
    ///
    /// # Errors
    /// The platform cannot be set up here.
    pub fn new() -> Result<Self, SimulationError> {
        let (year, month, day, hour, minute) = BEGINNING;
        let beginning = Timestamp::at_minute(year, month, day, hour, minute);
        let beginning = beginning.ok_or(SimulationError::SetUp("no such time".to_owned()))?;
        let directory = scratch()?;
        let home = directory.path().join("realm");
        let realm = Realm::create(&home, RealmKind::Demo, &unlock(), beginning)?;
        let clock: SharedClock = Arc::new(MachineClock::showing(beginning));
        let entropy = Arc::new(SeededEntropy::new(Chance::new(0, 1)));
        let surroundings = Surroundings { clock, entropy, hsm: Arc::new(Machine::default()) };
        let platform = InProcess::start(realm, surroundings)?;
        let operator = std::fs::read_to_string(RealmPaths::new(&home).operator_key())?;
        let mut desk = Desk { platform, asked: 0 };
        let operator = operator.trim();
        let prepared = desk.set_up(operator, directory, home, beginning);
        desk.platform.stop();
        prepared
    }
}

/// Who sets the world up.
struct Desk {
    platform: InProcess,
    asked: u32,
}

impl Desk {
    fn ask(
        &mut self,
        method: &'static str,
        path: &str,
        bearer: &str,
        body: String,
    ) -> Result<Value, SimulationError> {
        self.asked = self.asked.saturating_add(1);
        let key = (method == "POST").then(|| format!("set-up-{}", self.asked));
        let call = Call {
            method,
            path: path.to_owned(),
            bearer: bearer.to_owned(),
            idempotency_key: key,
            body,
        };
        let answer = self.platform.ask(vec![call])?.pop();
        let answer = answer.ok_or_else(|| SimulationError::SetUp(path.to_owned()))?;
        if answer.status >= 300 {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(SimulationError::SetUp(format!("{path}: {body}")));
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    fn post(&mut self, path: &str, bearer: &str, body: &Value) -> Result<Value, SimulationError> {
        self.ask("POST", path, bearer, body.to_string())
    }

    fn set_up(
        &mut self,
        operator: &str,
        directory: TempDir,
        home: PathBuf,
        beginning: Timestamp,
    ) -> Result<Prepared, SimulationError> {
        let issuer = json!({
            "name": "Campus Karte", "country": "276", "currency": "EUR",
            "pan_prefix": "999911", "token_prefix": "999922",
            "key_policy": {
                "maximum_payments": 40, "maximum_total_minor": 200_000,
                "lifetime_seconds": 86_400, "keys_per_replenishment": 2
            }
        });
        let issuer = text(&self.post("/v1/issuers", operator, &issuer)?, "id")?;
        let path = format!("/v1/issuers/{issuer}/api-keys");
        let issuer_key = text(&self.post(&path, operator, &json!({}))?, "api_key")?;
        let mut cards = Vec::new();
        for card in 0..ON_THE_CARDS.len() {
            cards.push(self.card(&issuer, &issuer_key, card)?);
        }
        let mut phones = Vec::new();
        for (number, card) in CARD_OF_PHONE.into_iter().enumerate() {
            let id: Option<&CardId> = cards.get(card);
            let id = id.map(ToString::to_string).unwrap_or_default();
            phones.push(self.phone(&issuer, &issuer_key, number, card, &id, beginning)?);
        }
        let (mut merchants, mut ids) = (Vec::new(), Vec::new());
        for name in ["Mensa", "Kiosk"] {
            let merchant = json!({ "name": name, "country": "276", "category_code": "5814" });
            let merchant = self.post("/v1/merchants", operator, &merchant)?;
            ids.push(text(&merchant, "id")?);
            let id = text(&merchant, "id")?.parse();
            let id = id.map_err(|_| SimulationError::SetUp("a merchant's id".to_owned()))?;
            merchants.push(MerchantSetUp { id, key: text(&merchant, "api_key")? });
        }
        let mut tills = Vec::new();
        for (number, merchant) in MERCHANT_OF_TILL.into_iter().enumerate() {
            let owner = ids.get(merchant).cloned().unwrap_or_default();
            let key = merchants.get(merchant).map(|merchant| merchant.key.clone());
            let label = format!("till {number}");
            let body = json!({ "merchant": owner, "label": label });
            let made = self.post("/v1/terminals", &key.unwrap_or_default(), &body)?;
            let id = text(&made, "id")?.parse();
            let id = id.map_err(|_| SimulationError::SetUp("a terminal's id".to_owned()))?;
            tills.push(TillSetUp { id, key: text(&made, "api_key")?, merchant });
        }
        let trust = self.ask("GET", "/v1/trust", operator, String::new())?;
        let till = till(&trust).ok_or_else(|| SimulationError::SetUp(trust.to_string()))?;
        let issuer = issuer.parse();
        let issuer = issuer.map_err(|_| SimulationError::SetUp("an issuer's id".to_owned()))?;
        Ok(Prepared {
            _directory: directory,
            home,
            beginning,
            issuer,
            issuer_key,
            cards,
            phones,
            merchants,
            tills,
            till,
        })
    }

    fn card(&mut self, issuer: &str, key: &str, number: usize) -> Result<CardId, SimulationError> {
        let card = json!({ "issuer": issuer, "expiry": "2031-12" });
        let id = text(&self.post("/v1/cards", key, &card)?, "id")?;
        let (amount, reference) = opening(number);
        let top_up = json!({ "amount": amount, "currency": "EUR", "reference": reference });
        self.post(&format!("/v1/cards/{id}/top-ups"), key, &top_up)?;
        id.parse().map_err(|_| SimulationError::SetUp(id))
    }

    fn phone(
        &mut self,
        issuer: &str,
        issuer_key: &str,
        number: usize,
        card: usize,
        card_id: &str,
        now: Timestamp,
    ) -> Result<PhoneSetUp, SimulationError> {
        let what_for = u64::try_from(number).unwrap_or(0).saturating_add(2);
        let mut chance = Chance::new(0, what_for);
        let mut wallet = Wallet::new(&mut chance);
        let public_key = data_encoding::HEXLOWER.encode(&wallet.device_public_key());
        let mut phone = Phone::starting(&wallet.snapshot()?, chance)?;
        let label = format!("phone {number}");
        let device = json!({ "issuer": issuer, "label": label, "public_key": public_key });
        let device = self.post("/v1/devices", issuer_key, &device)?;
        let key = text(&device, "api_key")?;
        let token = json!({ "card": card_id, "device": text(&device, "id")? });
        let token = text(&self.post("/v1/tokens", issuer_key, &token)?, "id")?;
        let by_issuer = json!({ "actor": "issuer", "reason": "set up" });
        self.post(&format!("/v1/tokens/{token}/activate"), issuer_key, &by_issuer)?;
        let id: TokenId = token.parse().map_err(|_| SimulationError::SetUp(token.clone()))?;
        let request = phone.wants_keys(id)?.unwrap_or_default();
        let sealed = self.ask("POST", &format!("/v1/tokens/{token}/replenish"), &key, request)?;
        if !phone.takes_keys(id, sealed.to_string().as_bytes(), now) {
            return Err(SimulationError::SetUp(format!("{label} takes no keys")));
        }
        phone.wallet().set_default_token(id).map_err(|_| SimulationError::SetUp(token))?;
        Ok(PhoneSetUp { token: id, card, key, kept: phone.into_kept() })
    }
}

fn text(value: &Value, field: &str) -> Result<String, SimulationError> {
    let text = value.get(field).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| SimulationError::SetUp(format!("no {field}")))
}

/// A till that trusts whom the platform trusts.
fn till(trust: &Value) -> Option<TerminalConfiguration> {
    let bytes = |value: &Value| data_encoding::HEXLOWER.decode(value.as_str()?.as_bytes()).ok();
    let aid = bytes(trust.get("issuers")?.get(0)?.get("aid")?)?;
    let application = KernelConfiguration::attended(&aid, GERMANY, TILL_LIMIT).ok()?;
    let authority = CaPublicKey {
        rid: bytes(trust.get("rid")?)?.try_into().ok()?,
        index: u8::try_from(trust.get("ca_index")?.as_u64()?).ok()?,
        key: PublicX::from_bytes(&bytes(trust.get("ca_public_key_x")?)?.try_into().ok()?).ok()?,
    };
    Some(TerminalConfiguration::new([application], TILL_LIMIT.currency, vec![authority]))
}
