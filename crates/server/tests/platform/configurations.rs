//! Signed configurations and audit heads, as phones and terminals get them from a real platform.

use std::fs;

use serde_json::json;
use tapfer_emv::audit_chain::{HeadError, KnownHead};
use tapfer_emv::configuration::{ConfigurationError, KnownConfiguration};
use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_emv::merchant::{MerchantPrivateKey, MerchantSigner as _};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{
    Audience, AuditHead, Configuration, Content, SignedConfiguration, SignedDocument, TerminalTrust,
};
use tapfer_payment_types::messages::HexBytes;
use tapfer_storage::DatabaseReader;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{ConfigurationStore as _, PublishedConfiguration, Storage as _};
use tapfer_wallet::AcceptError;

use crate::running::Client;
use crate::shop::{Shop, reason};

fn fetch(client: &Client) -> SignedConfiguration {
    serde_json::from_value(client.get("/v1/configuration").expect(200)).unwrap()
}

fn read(shop: &Shop, client: &Client) -> (KnownConfiguration, Configuration) {
    KnownConfiguration::first(&fetch(client), shop.now()).unwrap()
}

fn for_terminals(configuration: Configuration) -> TerminalTrust {
    match configuration.content {
        Content::Terminals(trust) => trust,
        Content::Phones(_) => panic!("for phones"),
    }
}

fn policy(shop: &Shop, limit: i64) {
    let policy = json!({
        "name": "stricter", "version": 1, "currency": "EUR", "limit": limit,
        "up_to_limit": "anything", "above_limit": "unlocked",
    });
    let path = format!("/v1/issuers/{}/policy", shop.issuer_id);
    shop.issuer.put(&path, &policy).expect(200);
}

#[test]
fn each_gets_its_own_and_nobody_anothers() {
    let shop = Shop::open();
    let (phone, _) = read(&shop, &shop.device);
    assert_eq!(phone.audience, Audience::Phones(shop.issuer_id.parse().unwrap()));
    let (till, content) = read(&shop, &shop.terminal);
    assert_eq!(
        (till.audience, till.key, till.realm),
        (Audience::Terminals, phone.key, phone.realm)
    );
    let trust = for_terminals(content);
    let published = shop.operator().get("/v1/trust").expect(200);
    assert_eq!(json!(trust.issuers[0].certificate), published["issuers"][0]["certificate"]);
    assert_eq!(json!(trust.authorities[0].public_key_x), published["ca_public_key_x"]);

    let of_phones = format!("/v1/configuration?audience={}", phone.audience);
    shop.operator().get(&of_phones).expect(200);
    shop.device.get(&of_phones).expect(200);
    shop.issuer.get(&of_phones).expect(200);
    shop.terminal.get(&of_phones).problem(404);
    shop.device.get("/v1/configuration?audience=terminals").problem(404);
    shop.operator().get("/v1/configuration?audience=everybody").problem(422);
    let nobody = "/v1/configuration?audience=phones:iss_01kaj5m8g0e9z1a2b3c4d5e6f7";
    shop.operator().get(nobody).problem(404);
}

#[test]
fn a_version_for_each_change_and_a_new_head_now_and_then() {
    let shop = Shop::open();
    let (first, _) = read(&shop, &shop.terminal);
    assert_eq!(fetch(&shop.terminal), fetch(&shop.terminal), "nothing changed");
    let path = format!("/v1/issuers/{}/certificate/revoke", shop.issuer_id);
    shop.operator().post(&path, &reason("its key was copied")).expect(200);
    let (second, revoked) = first.accept(&fetch(&shop.terminal), shop.now()).unwrap();
    assert_eq!(second.newest.unwrap().version, first.newest.unwrap().version + 1);
    assert_eq!(for_terminals(revoked).revoked_certificates.len(), 1);
    assert!(second.newest.unwrap().head.sequence > first.newest.unwrap().head.sequence);

    let (phone, _) = read(&shop, &shop.device);
    policy(&shop, 900);
    let (phone, told) = phone.accept(&fetch(&shop.device), shop.now()).unwrap();
    assert!(matches!(told.content, Content::Phones(told) if told.policy.limit == 900));
    // Nothing changed but the log: an hour later the device hears where it ends now.
    shop.take_back_a_payment();
    shop.platform.clock.advance_seconds(3_599);
    assert_eq!(phone.accept(&fetch(&shop.device), shop.now()).unwrap().0, phone);
    let end = head(&shop).0;
    shop.platform.clock.advance_seconds(1);
    let (later, _) = phone.accept(&fetch(&shop.device), shop.now()).unwrap();
    assert_eq!(later.newest.unwrap().version, phone.newest.unwrap().version + 1);
    assert!(later.newest.unwrap().expires_at > phone.newest.unwrap().expires_at);
    assert_eq!(later.newest.unwrap().head, end);
}

/// Attack: who writes to the database lets devices believe that nothing is newer, by what stands beside the signed
/// text, or by a text that was signed for others or long ago.
#[test]
fn attack_configuration_exchanged_in_the_database() {
    let mut shop = Shop::open();
    let (till, _) = read(&shop, &shop.terminal);
    let of_tills = fetch(&shop.terminal).configuration;
    shop.platform.clock.advance_seconds(3_600);
    let (till, _) = till.accept(&fetch(&shop.terminal), shop.now()).unwrap();
    let of_phones = fetch(&shop.device).configuration;
    let mut forged = of_tills.clone();
    forged.document =
        forged.document.replacen("\"version\":1", "\"version\":9223372036854775806", 1);
    assert_ne!(forged, of_tills);
    // Signed by himself.
    let own = MerchantPrivateKey::from_bytes(&[7; 32]).unwrap();
    let sign = |document: String| {
        let message = DocumentPurpose::Configuration.message(document.as_bytes());
        let signature = HexBytes(own.sign(&message).unwrap().to_vec());
        SignedDocument { document, key: HexBytes(own.public_key().bytes().to_vec()), signature }
    };
    let his = sign(forged.document.clone());
    let mut seen = till.newest.unwrap().version;
    for put_in in [forged, his, of_phones, of_tills] {
        let was = shop.in_database(|storage| {
            let before = storage.configuration(Audience::Terminals).unwrap();
            let published = PublishedConfiguration {
                audience: Audience::Terminals,
                version: 1,
                signed: put_in,
            };
            storage
                .publish_configuration(published, before.clone(), Timestamp::from_unix_millis(0))
                .unwrap();
            before.unwrap()
        });
        let (told, _) = KnownConfiguration::first(&fetch(&shop.terminal), shop.now()).unwrap();
        let told = told.newest.unwrap();
        assert_eq!(told.issued_at, shop.now(), "it was signed anew");
        assert!(told.version <= seen, "{}", told.version);
        // No device is led astray, and nothing is used up: the operator's word mends it.
        assert!(till.accept(&fetch(&shop.terminal), shop.now()).is_err());
        shop.in_database(|storage| {
            let before = storage.configuration(Audience::Terminals).unwrap();
            let published =
                PublishedConfiguration { audience: Audience::Terminals, version: 1, signed: was };
            storage
                .publish_configuration(published, before, Timestamp::from_unix_millis(0))
                .unwrap();
        });
        seen = till.accept(&fetch(&shop.terminal), shop.now()).unwrap().0.newest.unwrap().version;
    }
}

fn head(shop: &Shop) -> (KnownHead, SignedDocument) {
    let answer = shop.device.get("/v1/audit/head").expect(200);
    let signed: SignedDocument = serde_json::from_value(answer["head"].clone()).unwrap();
    let key = DocumentKey::from_bytes(signed.key.0.as_slice().try_into().unwrap()).unwrap();
    let head: AuditHead = key.read(DocumentPurpose::AuditHead, &signed).unwrap();
    let known = KnownHead::read(&signed, &key, head.realm).unwrap();
    (known, signed)
}

#[test]
fn the_audit_chain_is_signed_and_its_links_lead_from_head_to_head() {
    let mut shop = Shop::open();
    let (first, signed) = head(&shop);
    assert_eq!(head(&shop).1, signed, "the same end is signed once");
    for _ in 0..3 {
        shop.pay(100);
    }
    let (later, _) = head(&shop);
    first.allows(&later).unwrap();
    assert!(later.sequence >= first.sequence + 6);
    let answer = shop.device.get(&format!("/v1/audit/links?after={}", first.sequence)).expect(200);
    let links: Vec<HexBytes> = serde_json::from_value(answer["event_hashes"].clone()).unwrap();
    let mut links: Vec<[u8; 32]> =
        links.iter().map(|link| link.0.as_slice().try_into().unwrap()).collect();
    first.proves(&links, &later).unwrap();
    links.swap(0, 1);
    assert!(first.proves(&links, &later).is_err());
    shop.device.get("/v1/audit/links?after=0&limit=1001").problem(422);
    shop.device.get("/v1/audit/links?after=18446744073709551615").problem(422);

    // Beside the running platform, as the operator's command does it.
    let database = shop.platform.home().join("tapfer.db");
    let report = DatabaseReader::file(&database).unwrap().verify_audit().unwrap();
    assert_eq!(report.fault, None);
    assert!(report.heads.iter().any(|(found, _)| *found == signed));
    assert!(report.heads.iter().all(|(_, hash)| hash.is_some()));
}

fn refusal(shop: &mut Shop) -> Option<ConfigurationError> {
    let path = format!("/v1/tokens/{}/replenish", shop.token);
    let token = shop.token.parse().unwrap();
    let request = shop.phone.replenish_request(token);
    let answer = shop.device.post(&path, &request).expect(200);
    let sealed = serde_json::from_value(answer).unwrap();
    let now = shop.now();
    match shop.phone.wallet().accept(token, &sealed, now).map(drop) {
        Ok(()) => None,
        Err(AcceptError::Configuration(error)) => Some(error),
        Err(other) => panic!("{other}"),
    }
}

impl Shop {
    fn operator(&self) -> &Client {
        &self.platform.operator
    }

    /// Somebody with a hand on the database, while the platform stands still.
    fn in_database<T>(&mut self, work: impl FnOnce(&SqliteStorage) -> T) -> T {
        self.platform.stop();
        let file = self.platform.home().join("tapfer.db");
        let realm = DatabaseReader::file(&file).unwrap().realm();
        let storage = SqliteStorage::open(&file, realm, &SqliteOptions::default()).unwrap();
        let done = work(&storage);
        storage.close();
        drop(storage);
        self.start_again();
        done
    }

    fn start_again(&mut self) {
        self.platform.restart();
        for client in [&mut self.device, &mut self.issuer, &mut self.terminal, &mut self.merchant] {
            *client = self.platform.operator.with_key(&json!(client.key()));
        }
    }

    /// Two lines in the audit log.
    fn take_back_a_payment(&self) {
        let intent = self.intent(100);
        self.merchant.post(&format!("/v1/payment-intents/{intent}/cancel"), &json!({})).expect(200);
    }

    /// Starts the platform again, on its database as it is now or as it was.
    pub(crate) fn restart_on(&mut self, database: Option<&[u8]>) -> Vec<u8> {
        self.platform.stop();
        let file = self.platform.home().join("tapfer.db");
        let before = fs::read(&file).unwrap();
        if let Some(database) = database {
            fs::write(&file, database).unwrap();
        }
        self.start_again();
        before
    }
}

/// Attack: whoever has the platform's disk puts an older database in its place, so that a stricter policy, a
/// revocation and the record of who did what are gone.
#[test]
fn attack_platform_database_put_back() {
    let mut shop = Shop::open();
    let (till, _) = read(&shop, &shop.terminal);
    let older = shop.restart_on(None);
    for _ in 0..30 {
        shop.take_back_a_payment();
    }
    policy(&shop, 900);
    assert_eq!(refusal(&mut shop), None);
    let certificate = format!("/v1/issuers/{}/certificate/revoke", shop.issuer_id);
    shop.operator().post(&certificate, &reason("its key was copied")).expect(200);
    let (till, _) = till.accept(&fetch(&shop.terminal), shop.now()).unwrap();

    shop.restart_on(Some(&older));
    assert!(matches!(refusal(&mut shop), Some(ConfigurationError::Older { .. })));
    let old = till.accept(&fetch(&shop.terminal), shop.now());
    assert!(matches!(old, Err(ConfigurationError::Older { .. })));
    // The versions are counted up again; the audit chain is not as long as it was.
    for limit in 901..904 {
        policy(&shop, limit);
        fetch(&shop.device);
    }
    let shorter = refusal(&mut shop);
    let went_back = |error: &ConfigurationError| {
        matches!(error, ConfigurationError::AuditHead(HeadError::WentBack { .. }))
    };
    assert!(shorter.as_ref().is_some_and(went_back), "{shorter:?}");

    // The operator says so: it is not hidden any more, and devices go on.
    let restorations = "/v1/audit/restorations";
    shop.device.post(restorations, &reason("the disk broke")).problem(403);
    let said = shop.operator().post(restorations, &reason("the disk broke")).expect(200);
    assert_eq!(said["restoration"], shop.now().unix_millis());
    assert_eq!(refusal(&mut shop), None);
    till.accept(&fetch(&shop.terminal), shop.now()).unwrap();
}

/// A chain that was rewritten and has become longer than it was is another chain: the links show it.
#[test]
fn links_show_a_chain_that_was_rewritten() {
    let mut shop = Shop::open();
    let older = shop.restart_on(None);
    shop.take_back_a_payment();
    let (known, _) = head(&shop);
    shop.restart_on(Some(&older));
    for _ in 0..5 {
        shop.take_back_a_payment();
    }
    let (later, _) = head(&shop);
    known.allows(&later).expect("longer, so nobody sees it from the head alone");
    let answer = shop.device.get(&format!("/v1/audit/links?after={}", known.sequence)).expect(200);
    let links: Vec<HexBytes> = serde_json::from_value(answer["event_hashes"].clone()).unwrap();
    let links: Vec<[u8; 32]> =
        links.iter().map(|link| link.0.as_slice().try_into().unwrap()).collect();
    assert!(known.proves(&links, &later).is_err());
}
