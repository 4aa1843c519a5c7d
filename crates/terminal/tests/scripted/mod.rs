//! Cards that answer from a file of whole transactions.
#![allow(dead_code, reason = "not every test that shares this needs all of it")]

use std::time::Duration;

use serde_json::Value;
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::tlv::Tag;
use tapfer_payment_types::{Currency, Money, Timestamp};
use tapfer_terminal::kernel8::{Action, Inputs, Kernel, KernelConfiguration, Outcome, Session};

const FILE: &str = include_str!("../../../vectors/tests/data/kernel8-transactions.json");

/// One transaction of the file.
pub(crate) struct Script {
    transaction: Value,
}

pub(crate) fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

impl Script {
    /// All transactions of the file.
    pub(crate) fn all() -> Vec<Self> {
        let file: Value = serde_json::from_str(FILE).unwrap();
        let all = file["kernel8_transactions"].as_array().unwrap();
        all.iter().map(|one| Self { transaction: one.clone() }).collect()
    }

    pub(crate) fn name(&self) -> &str {
        self.transaction["name"].as_str().unwrap()
    }

    /// Bytes below `terminal`; empty where the file has none.
    pub(crate) fn of_terminal(&self, name: &str) -> Vec<u8> {
        let value = &self.transaction["terminal"][name];
        if value.is_null() { Vec::new() } else { hex(value) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.transaction["now"].as_str().unwrap().parse().unwrap()
    }

    /// What the card knew; `None` where the dialogue did not come far enough.
    pub(crate) fn fact<const N: usize>(&self, name: &str) -> Option<[u8; N]> {
        let value = &self.transaction["card_facts"][name];
        (!value.is_null()).then(|| hex(value).try_into().unwrap())
    }

    /// Whether the card was told to behave in any way of its own.
    pub(crate) fn has_options(&self) -> bool {
        !self.transaction["card_options"].as_object().unwrap().is_empty()
    }

    /// The terminal's key and number for this transaction.
    pub(crate) fn inputs(&self) -> Inputs {
        let kernel_key = self.of_terminal("kernel_private").try_into().unwrap();
        Inputs {
            now: self.now(),
            kernel_key: PrivateKey::from_bytes(&kernel_key).unwrap(),
            unpredictable_number: self.of_terminal("unpredictable_number").try_into().unwrap(),
        }
    }

    /// First byte of the outcome parameter set.
    pub(crate) fn status(&self) -> u8 {
        hex(&self.transaction["outcome"]["9f8210"])[0]
    }

    pub(crate) fn amount(&self) -> Money {
        let digits = self.transaction["terminal"]["session"]["9f02"].as_str().unwrap();
        Money::new(digits.parse().unwrap(), Currency::EUR)
    }

    pub(crate) fn ca_public_key(&self) -> CaPublicKey {
        let ca = &self.transaction["terminal"]["ca_public_key"];
        CaPublicKey {
            rid: hex(&ca["rid"]).try_into().unwrap(),
            index: hex(&ca["index"])[0],
            key: PublicX::from_bytes(&hex(&ca["x"]).try_into().unwrap()).unwrap(),
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut all = Self::all();
        all.retain(|one| one.name() == name);
        all.pop().unwrap()
    }

    /// The commands that were sent.
    pub(crate) fn commands(&self) -> Vec<Vec<u8>> {
        let exchange = self.transaction["exchange"].as_array().unwrap();
        exchange.iter().map(|pair| hex(&pair[0])).collect()
    }

    /// The card's answers, the one to SELECT first.
    pub(crate) fn responses(&self) -> Vec<Vec<u8>> {
        let exchange = self.transaction["exchange"].as_array().unwrap();
        exchange.iter().map(|pair| hex(&pair[1])).collect()
    }

    pub(crate) fn data_record(&self) -> Vec<u8> {
        hex(&self.transaction["outcome"]["bf8102"])
    }

    pub(crate) fn objects(&self, of: &str) -> Vec<(Tag, Vec<u8>)> {
        let objects = self.transaction["terminal"][of].as_object().unwrap();
        let tag = |name: &str| Tag::new(u32::from_str_radix(name, 16).unwrap());
        objects.iter().map(|(name, value)| (tag(name), hex(value))).collect()
    }

    pub(crate) fn configuration(&self) -> KernelConfiguration {
        let objects = self.objects("config");
        let borrowed = objects.iter().map(|(tag, value)| (*tag, value.as_slice()));
        KernelConfiguration::from_data_objects(borrowed).unwrap()
    }

    /// A kernel that has read `fci`.
    pub(crate) fn start(&self, configuration: KernelConfiguration, fci: &[u8]) -> Kernel {
        let objects = self.objects("session");
        let session =
            Session::from_data_objects(objects.iter().map(|(tag, value)| (*tag, value.as_slice())))
                .unwrap();
        let key = self.ca_public_key();
        Kernel::start(configuration, &session, vec![key], self.inputs(), fci)
    }

    /// Plays these answers, the one to SELECT first; a card that has no more answers is gone.
    pub(crate) fn play(&self, responses: &[Vec<u8>]) -> (usize, Outcome) {
        self.play_with(self.configuration(), responses)
    }

    /// As [`play`](Self::play), for a terminal that is set up otherwise.
    pub(crate) fn play_with(
        &self,
        configuration: KernelConfiguration,
        responses: &[Vec<u8>],
    ) -> (usize, Outcome) {
        let milliseconds = self.transaction["command_ms"].as_u64().unwrap();
        let fci = responses[0].strip_suffix(&[0x90, 0x00]).unwrap_or(&responses[0]);
        let mut kernel = self.start(configuration, fci);
        let mut answers = responses[1..].iter();
        let mut commands = 0;
        while let Action::Transmit(_) = kernel.poll() {
            commands += 1;
            assert!(commands < 1_000, "the kernel does not come to an end");
            let answer = answers.next().map_or(&[][..], Vec::as_slice);
            kernel = kernel.handle_response(answer, Duration::from_millis(milliseconds));
        }
        (commands, kernel.into_outcome().unwrap())
    }
}
