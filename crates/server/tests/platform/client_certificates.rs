//! Terminals and phones that prove by a TLS certificate who they are, on real connections.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tapfer_server::{ClientCertificates, Limits};
use tapfer_test_postgres::TestPostgres;

use crate::running::{Client, Platform, Reply};
use crate::shop::{Shop, id, issuer_request, reason};

const DAY: i64 = 86_400;

/// A TLS key, and what the platform or somebody else has certified of it.
struct Credential {
    key: KeyPair,
    chain: Vec<CertificateDer<'static>>,
}

/// Asks for a certificate over a fresh key.
fn request(key: &KeyPair) -> Value {
    let request = CertificateParams::default().serialize_request(key).unwrap();
    json!({ "certificate_request": request.pem().unwrap() })
}

fn certificate(answer: &Value) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(answer["certificate"].as_str().unwrap().as_bytes()).unwrap()
}

/// Gets a certificate with an API key.
fn enrol(client: &Client) -> Credential {
    let key = KeyPair::generate().unwrap();
    let answer = client.post("/v1/client-certificates", &request(&key)).expect(201);
    Credential { chain: vec![certificate(&answer)], key }
}

/// One connection that stays open, with a client's certificate.
struct Connection(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Connection {
    /// Shakes hands. That a certificate was refused shows with the first answer (RFC 8446, 4.4.2.4).
    fn open(platform: &Platform, credential: &Credential) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(platform.ca_certificate()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(credential.key.serialize_der()).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(credential.chain.clone(), key)
            .unwrap();
        let name = ServerName::from(platform.address().ip());
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(platform.address()).unwrap();
        Self(BufReader::new(StreamOwned::new(connection, socket)))
    }

    /// Asks without an API key; an error if the platform hangs up instead of answering.
    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Reply> {
        write!(
            self.0.get_mut(),
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        )?;
        self.0.get_mut().flush()?;
        let (mut status, mut headers) = (0, Vec::new());
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match (line.trim_end().split_once(": "), line.trim_end()) {
                (Some((name, value)), _) => headers.push((name.to_owned(), value.to_owned())),
                (None, "") => break,
                (None, first) => status = first.split(' ').nth(1).unwrap().parse().unwrap(),
            }
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").unwrap();
        let mut body = vec![0; length.1.parse().unwrap()];
        self.0.read_exact(&mut body)?;
        Ok(Reply { status, headers, body })
    }

    fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.ask("GET", path, "", "")
    }

    fn post(&mut self, idempotency_key: &str, path: &str, body: &Value) -> io::Result<Reply> {
        let headers =
            format!("content-type: application/json\r\nidempotency-key: {idempotency_key}\r\n");
        self.ask("POST", path, &headers, &body.to_string())
    }
}

fn terminal_path(shop: &Shop) -> String {
    format!("/v1/terminals/{}", shop.terminal_id)
}

#[test]
fn a_terminal_pays_with_its_certificate_alone_and_renews_it_so() {
    let mut shop = Shop::open();
    let first = enrol(&shop.terminal);
    let mut connection = Connection::open(&shop.platform, &first);
    let intent = shop.armed_intent(1_000);
    let chip_data = shop.tap(&intent, 1_000);
    let question = json!({ "payment_intent": intent, "chip_data": chip_data });
    let paid = connection.post("pay-1", "/v1/authorizations", &question).unwrap().expect(201);
    assert_eq!(paid["outcome"], "approved");

    // The answer is told before its idempotency key is free again: until then it is 409.
    let ask_again = || shop.terminal.post_as("pay-1", "/v1/authorizations", &question);
    let again = std::iter::repeat_with(ask_again).find(|answer| answer.status != 409).unwrap();
    assert!(again.is_replayed(), "with its API key the terminal hears the same");
    assert_eq!(again.expect(201), paid);

    let key = KeyPair::generate().unwrap();
    let renewed = connection.post("renew", "/v1/client-certificates", &request(&key)).unwrap();
    let renewed = renewed.expect(201);
    assert_eq!(renewed["owner"], shop.terminal_id.as_str());
    let second = Credential { chain: vec![certificate(&renewed)], key };
    let mut connection = Connection::open(&shop.platform, &second);
    assert_eq!(connection.get(&terminal_path(&shop)).unwrap().status, 200);
    let other = connection.get(&format!("/v1/cards/{}", shop.card)).unwrap();
    assert_eq!(other.problem(403), "forbidden", "a certificate gives no more than its API key");
}

#[test]
fn a_phone_fetches_its_keys_with_its_certificate() {
    let mut shop = Shop::open();
    let mut connection = Connection::open(&shop.platform, &enrol(&shop.device));
    let path = format!("/v1/tokens/{}/replenish", shop.token);
    let token = shop.token.parse().unwrap();
    let wanted = shop.phone.replenish_request(token);
    let answer = connection.post("keys-1", &path, &wanted).unwrap().expect(200);
    let now = shop.now();
    shop.phone.accept(token, &answer, now);
    assert_eq!(shop.pay(500)["outcome"], "approved");
}

#[test]
fn only_terminals_and_phones_get_certificates() {
    let shop = Shop::open();
    let key = KeyPair::generate().unwrap();
    for client in [&shop.platform.operator, &shop.issuer, &shop.merchant] {
        let refused = client.post("/v1/client-certificates", &request(&key));
        assert_eq!(refused.problem(403), "forbidden");
    }
    let nonsense = json!({ "certificate_request": "no request" });
    let refused = shop.terminal.post("/v1/client-certificates", &nonsense);
    assert_eq!(refused.problem(422), "invalid_request");
}

#[test]
fn attack_revoked_terminal_on_an_open_connection() {
    let shop = Shop::open();
    let credential = enrol(&shop.terminal);
    let mut connection = Connection::open(&shop.platform, &credential);
    assert_eq!(connection.get(&terminal_path(&shop)).unwrap().status, 200);
    let revoke = format!("{}/revoke", terminal_path(&shop));
    shop.merchant.post(&revoke, &reason("stolen")).expect(200);
    let refused = connection.get(&terminal_path(&shop)).unwrap();
    assert_eq!(refused.problem(401), "unauthenticated");
    let mut another = Connection::open(&shop.platform, &credential);
    assert_eq!(another.get(&terminal_path(&shop)).unwrap().problem(401), "unauthenticated");
}

/// What a terminal hears of a payment of 10.00 EUR over its connection, and what is on the account behind it.
fn pay_over(shop: &mut Shop, connection: &mut Connection, key: &str) -> (Reply, (i64, i64)) {
    let intent = shop.armed_intent(1_000);
    let chip_data = shop.tap(&intent, 1_000);
    let question = json!({ "payment_intent": intent, "chip_data": chip_data });
    let answer = connection.post(key, "/v1/authorizations", &question).unwrap();
    (answer, shop.account())
}

/// What a certificate says is looked up with the payment, at the same moment as the payments beside it.
#[test]
fn attack_payment_with_a_revoked_key_on_an_open_connection() {
    let database = TestPostgres::start();
    for platform in [Platform::start(), Platform::start_on(&database, "")] {
        let mut shop = Shop::open_at(platform, &issuer_request());
        let mut connection = Connection::open(&shop.platform, &enrol(&shop.terminal));
        let (paid, behind) = pay_over(&mut shop, &mut connection, "pay-1");
        assert_eq!(paid.expect(201)["outcome"], "approved");
        let owner = format!("/v1/api-keys?owner={}", shop.terminal_id);
        let keys = shop.merchant.get(&owner).expect(200);
        let [key] = keys["data"].as_array().unwrap().as_slice() else { panic!("{keys}") };
        let revoke = format!("/v1/api-keys/{}/revoke", id(key));
        shop.merchant.post(&revoke, &reason("leaked")).expect(200);
        let (refused, account) = pay_over(&mut shop, &mut connection, "pay-2");
        assert_eq!(refused.problem(401), "unauthenticated");
        assert_eq!(account, behind, "nothing was booked");
    }
}

#[test]
fn attack_certificate_behind_its_end() {
    let shop = Shop::open();
    let credential = enrol(&shop.terminal);
    let mut connection = Connection::open(&shop.platform, &credential);
    shop.platform.clock.advance_seconds(DAY - 1);
    assert_eq!(connection.get(&terminal_path(&shop)).unwrap().status, 200);
    shop.platform.clock.advance_seconds(1);
    let refused = connection.get(&terminal_path(&shop)).unwrap();
    assert_eq!(refused.problem(401), "unauthenticated", "the connection is older than that");
    shop.platform.clock.advance_seconds(1);
    let mut another = Connection::open(&shop.platform, &credential);
    assert!(another.get("/health").is_err(), "and no other begins with it");
    let renewed = enrol(&shop.terminal);
    let mut connection = Connection::open(&shop.platform, &renewed);
    assert_eq!(connection.get(&terminal_path(&shop)).unwrap().status, 200, "but with a new one");
}

#[test]
fn attack_certificate_of_another_authority() {
    let shop = Shop::open();
    let genuine = enrol(&shop.terminal);
    let (_, read) = x509_parser::parse_x509_certificate(&genuine.chain[0]).unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name = names(read.issuer());
    let mut client = CertificateParams::default();
    client.distinguished_name = names(read.subject());
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
    let key = KeyPair::generate().unwrap();
    let forged = client.signed_by(&key, &issuer).unwrap();
    let forged = Credential { key, chain: vec![forged.der().clone()] };
    let mut connection = Connection::open(&shop.platform, &forged);
    assert!(connection.get(&terminal_path(&shop)).is_err());
}

fn names(name: &x509_parser::x509::X509Name<'_>) -> rcgen::DistinguishedName {
    let mut names = rcgen::DistinguishedName::new();
    for attribute in name.iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().unwrap().collect();
        names.push(DnType::from_oid(&oid), attribute.as_str().unwrap());
    }
    names
}

#[test]
fn attack_two_proofs_of_who_calls() {
    let shop = Shop::open();
    let mut connection = Connection::open(&shop.platform, &enrol(&shop.terminal));
    let operator = format!("authorization: Bearer {}\r\n", shop.platform.operator.key());
    let refused = connection.ask("GET", "/v1/cards", &operator, "").unwrap();
    assert_eq!(refused.problem(401), "unauthenticated");
    assert_eq!(connection.get(&terminal_path(&shop)).unwrap().status, 200);
}

#[test]
fn attack_stolen_api_key_where_certificates_are_required() {
    let certificates = ClientCertificates { are_required: true, life_seconds: 600 };
    let platform = Platform::start_as(Limits::default(), certificates);
    let operator = platform.operator.clone();
    operator.post("/v1/issuers", &issuer_request()).expect(201);
    let merchant = json!({ "name": "Mensa", "country": "276", "category_code": "5814" });
    let merchant = operator.post("/v1/merchants", &merchant).expect(201);
    let terminal = json!({ "merchant": merchant["id"], "label": "till 1" });
    let merchant = operator.with_key(&merchant["api_key"]);
    let terminal = merchant.post("/v1/terminals", &terminal).expect(201);
    let path = format!("/v1/terminals/{}", terminal["id"].as_str().unwrap());
    assert_eq!(merchant.get(&path).status, 200, "merchants have API keys");

    let terminal = operator.with_key(&terminal["api_key"]);
    assert_eq!(terminal.get(&path).problem(403), "client_certificate_required");
    let credential = enrol(&terminal);
    let mut connection = Connection::open(&platform, &credential);
    assert_eq!(connection.get(&path).unwrap().status, 200);
    platform.clock.advance_seconds(600);
    assert_eq!(connection.get(&path).unwrap().problem(401), "unauthenticated");
}
