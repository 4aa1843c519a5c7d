//! A till and a phone that pay over the platform's API, again and again until they are answered.

#![allow(dead_code)]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::PublicX;
use tapfer_emv::{tags, tlv};
use tapfer_payment_types::{Currency, Money, Timestamp};
use tapfer_terminal::kernel8::KernelConfiguration;
use tapfer_terminal::{Arming, TapAction, TapEnd, Terminal, TerminalConfiguration};
use tapfer_wallet::store::{self, DeviceSecret, StoreHeader, StoreKey, StoreShare};
use tapfer_wallet::{Card, DeviceState, Effect};

use crate::platform::Platform;

/// What each payment costs.
pub(crate) const PRICE: i64 = 100;
const PATIENCE: Duration = Duration::from_secs(120);

/// A payment and how it was answered.
pub(crate) struct Payment {
    pub(crate) key: String,
    pub(crate) question: Value,
    pub(crate) answer: Value,
}

impl Payment {
    /// The transaction counter that the platform accepted.
    pub(crate) fn counter(&self) -> Vec<u8> {
        let digits = self.question["chip_data"].as_str().unwrap();
        let chip_data = data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap();
        let counter = tlv::find(&chip_data, tags::APPLICATION_TRANSACTION_COUNTER).unwrap();
        counter.unwrap().to_vec()
    }
}

/// One payment from intent to answer; every step is asked until it is answered, under one key.
pub(crate) fn pay(client: &Client, phone: &mut Phone, number: usize) -> Payment {
    let (key, question) = tap(client, phone, number);
    let answer = client.post("/v1/authorizations", &question, &key, Caller::Terminal);
    Payment { key, question, answer }
}

/// A payment up to the question that the terminal puts, and the idempotency key for it.
pub(crate) fn tap(client: &Client, phone: &mut Phone, number: usize) -> (String, Value) {
    let id = armed(client, number);
    let chip_data = phone.tap(&client.configuration, &id);
    let question = json!({ "payment_intent": id, "chip_data": chip_data });
    (format!("authorization-{number}"), question)
}

/// A payment that the terminal is armed for.
pub(crate) fn armed(client: &Client, number: usize) -> String {
    let body = json!({ "amount": PRICE, "currency": "EUR" });
    let intent =
        client.post("/v1/payment-intents", &body, &format!("intent-{number}"), Caller::Merchant);
    let id = intent["id"].as_str().unwrap().to_owned();
    let arm = json!({ "terminal": client.terminal });
    let path = format!("/v1/payment-intents/{id}/arm");
    client.post(&path, &arm, &format!("arm-{number}"), Caller::Merchant);
    id
}

#[derive(Clone, Copy)]
pub(crate) enum Caller {
    Merchant,
    Terminal,
    Device,
}

/// A till that goes on asking.
pub(crate) struct Client {
    agent: ureq::Agent,
    address: String,
    merchant_key: String,
    terminal_key: String,
    device_key: String,
    device: String,
    terminal: String,
    configuration: TerminalConfiguration,
    /// How often the platform answered 503.
    refused: AtomicUsize,
}

impl Client {
    /// With the phone that was enrolled last at home.
    pub(crate) fn new(platform: &Platform) -> Self {
        Self::of(platform, None, Duration::from_secs(10))
    }

    /// With another phone.
    pub(crate) fn of_device(platform: &Platform, device: &str) -> Self {
        Self::of(platform, Some(device), Duration::from_secs(10))
    }

    /// One that does not wait long for a single answer.
    pub(crate) fn impatient(platform: &Platform) -> Self {
        Self::of(platform, None, Duration::from_secs(1))
    }

    fn of(platform: &Platform, device: Option<&str>, patience: Duration) -> Self {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pem = std::fs::read(platform.home().join("tls/ca-certificate.pem")).unwrap();
        let root = ureq::tls::Certificate::from_pem(&pem).unwrap();
        let roots = ureq::tls::RootCerts::new_with_certs(&[root]);
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .timeout_global(Some(patience))
            .build()
            .new_agent();
        let memory = std::fs::read(platform.home().join("client.json")).unwrap();
        let memory: Value = serde_json::from_slice(&memory).unwrap();
        let latest = |kind: &str| memory["latest"][kind].as_str().unwrap().to_owned();
        let key = |id: &str| memory["keys"][id].as_str().unwrap().to_owned();
        let device = device.map_or_else(|| latest("device"), str::to_owned);
        let trust = platform.tapfer(&["trust", "show"]);
        Self {
            agent,
            address: platform.address().to_owned(),
            merchant_key: key(&latest("merchant")),
            terminal_key: key(&latest("terminal")),
            device_key: key(&device),
            device,
            terminal: latest("terminal"),
            configuration: configuration(&trust),
            refused: AtomicUsize::new(0),
        }
    }

    /// The same till and phone, at another node of the platform.
    pub(crate) fn at(&self, node: &Platform) -> Self {
        Self {
            agent: self.agent.clone(),
            address: node.address().to_owned(),
            merchant_key: self.merchant_key.clone(),
            terminal_key: self.terminal_key.clone(),
            device_key: self.device_key.clone(),
            device: self.device.clone(),
            terminal: self.terminal.clone(),
            configuration: self.configuration.clone(),
            refused: AtomicUsize::new(0),
        }
    }

    /// The same, with another API key for the terminal.
    pub(crate) fn with_terminal(self, terminal: &str, api_key: &str) -> Self {
        Self { terminal: terminal.to_owned(), terminal_key: api_key.to_owned(), ..self }
    }

    /// How often the platform was not able to answer so far.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// Whether the platform says that it serves.
    pub(crate) fn is_ready(&self) -> bool {
        let answer = self.agent.get(format!("{}/ready", self.address)).call();
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    pub(crate) fn post(
        &self,
        path: &str,
        body: &Value,
        idempotency_key: &str,
        caller: Caller,
    ) -> Value {
        crate::platform::until(path, PATIENCE, || {
            let (status, answer) = self.ask(path, body, idempotency_key, caller)?;
            // Still running under the same key, or not able to answer now: the answer comes later.
            if status == 409 || status == 503 {
                return None;
            }
            assert!((200..300).contains(&status), "{path}: {status} {answer}");
            Some(answer)
        })
    }

    /// Asks once: status and body of the answer, if there is one.
    pub(crate) fn ask(
        &self,
        path: &str,
        body: &Value,
        idempotency_key: &str,
        caller: Caller,
    ) -> Option<(u16, Value)> {
        let answer = self
            .agent
            .post(format!("{}{path}", self.address))
            .header("authorization", self.bearer(caller))
            .header("idempotency-key", idempotency_key)
            .send_json(body);
        self.read(answer.ok()?)
    }

    /// Asks once for what is there.
    pub(crate) fn get(&self, path: &str, caller: Caller) -> Option<(u16, Value)> {
        self.get_as(self.key_of(caller), path)
    }

    /// The same with any API key.
    pub(crate) fn get_as(&self, api_key: &str, path: &str) -> Option<(u16, Value)> {
        let question = self.agent.get(format!("{}{path}", self.address));
        self.read(question.header("authorization", format!("Bearer {api_key}")).call().ok()?)
    }

    fn key_of(&self, caller: Caller) -> &str {
        match caller {
            Caller::Merchant => &self.merchant_key,
            Caller::Terminal => &self.terminal_key,
            Caller::Device => &self.device_key,
        }
    }

    fn bearer(&self, caller: Caller) -> String {
        format!("Bearer {}", self.key_of(caller))
    }

    fn read(&self, mut answer: ureq::http::Response<ureq::Body>) -> Option<(u16, Value)> {
        let status = answer.status().as_u16();
        if status == 503 {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        let text = answer.body_mut().read_to_string().ok()?;
        Some((status, serde_json::from_str(&text).unwrap()))
    }
}

fn configuration(trust: &Value) -> TerminalConfiguration {
    let bytes = |value: &Value| {
        data_encoding::HEXLOWER_PERMISSIVE.decode(value.as_str().unwrap().as_bytes()).unwrap()
    };
    let x: [u8; 32] = bytes(&trust["ca_public_key_x"]).try_into().unwrap();
    let ca = CaPublicKey {
        rid: bytes(&trust["rid"]).try_into().unwrap(),
        index: u8::try_from(trust["ca_index"].as_u64().unwrap()).unwrap(),
        key: PublicX::from_bytes(&x).unwrap(),
    };
    let aid = bytes(&trust["issuers"][0]["aid"]);
    let limit = Money::new(5_000, Currency::EUR);
    TerminalConfiguration::new(
        [KernelConfiguration::attended(&aid, 276, limit).unwrap()],
        limit.currency,
        vec![ca],
    )
}

/// The phone that was enrolled, in memory.
pub(crate) struct Phone(Card);

impl Phone {
    pub(crate) fn open(directory: &Path, client: &Client) -> Self {
        let secret = std::fs::read(directory.join("store.key")).unwrap();
        let secret = DeviceSecret::new(secret.try_into().unwrap());
        let sealed = std::fs::read(directory.join("wallet.sealed")).unwrap();
        let StoreHeader { epoch, generation } = StoreHeader::read(&sealed).unwrap();
        let report = json!({ "epoch": epoch, "generation": generation });
        let path = format!("/v1/devices/{}/store-share", client.device);
        let answer = client.post(&path, &report, "store-share", Caller::Device);
        let share = data_encoding::HEXLOWER.decode(answer["share"].as_str().unwrap().as_bytes());
        let epoch = NonZeroU32::new(epoch).expect("enrolled, and moved to the first epoch");
        let share = StoreShare::new(epoch, share.unwrap().try_into().unwrap());
        let key = StoreKey::with_share(&secret, &share).unwrap();
        Self(Card::new(store::open(&key, &sealed).unwrap()))
    }

    /// Taps, and gives the chip data in hexadecimal digits.
    fn tap(&mut self, configuration: &TerminalConfiguration, intent: &str) -> String {
        let amount = Money::new(PRICE, Currency::EUR);
        let arming = Arming::new(intent.parse().unwrap(), amount, now().plus_seconds(60)).unwrap();
        let terminal = Terminal::new(configuration.clone()).arm(arming).unwrap();
        let mut tap = terminal.tap(now()).unwrap();
        let mut random = rand_core::UnwrapErr(getrandom::SysRng);
        while let TapAction::Transmit(command) = tap.poll() {
            let reply = self.answer(&command.encode().unwrap());
            tap = tap.handle_response(&reply, Duration::ZERO, &mut random);
        }
        match tap.finish() {
            TapEnd::Online(payment) => {
                data_encoding::HEXLOWER.encode(payment.request().chip_data())
            }
            other => panic!("the tap does not go online: {other:?}"),
        }
    }

    fn answer(&mut self, command: &[u8]) -> Vec<u8> {
        let mut random = rand_core::UnwrapErr(getrandom::SysRng);
        let device = DeviceState { screen_on: true, unlocked: false, ..DeviceState::default() };
        let effects = self.0.handle(command, now(), &mut random, &device);
        let reply = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(response) => Some(response.encode()),
            _ => None,
        });
        reply.unwrap()
    }

    /// One tap at the terminal that dials this field (`terminal pay --card-at`): a message is its length in two
    /// bytes, big-endian, and a command or, alone, field on (`01`) or off (`00`). `begun` is called in between.
    pub(crate) fn present(&mut self, field: &TcpListener, begun: impl FnOnce()) {
        let mut terminal = field.accept().unwrap().0;
        let mut begun = Some(begun);
        let mut length = [0; 2];
        while terminal.read_exact(&mut length).is_ok() {
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            terminal.read_exact(&mut message).unwrap();
            if message.len() == 1 {
                continue;
            }
            if let Some(begun) = begun.take() {
                begun();
            }
            let reply = self.answer(&message);
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            terminal.write_all(&[&length[..], &reply].concat()).unwrap();
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap())
}
