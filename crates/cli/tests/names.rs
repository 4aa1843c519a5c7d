//! A platform that tills and phones on other machines reach by a name, and certificates that its operator brings. 127.0.0.2 is the
//! name here: an address that is none of the certificate's unless it is given.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod platform;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use platform::{Platform, tapfer, until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

const EVERYWHERE: &str = "0.0.0.0:0";
const NAME: &str = "127.0.0.2";
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// A machine of its own: it has a home directory, and knows what it is told.
struct Elsewhere {
    home: tempfile::TempDir,
    server: String,
    ca_certificate: PathBuf,
}

impl Elsewhere {
    fn new(platform: &Platform, name: &str, ca_certificate: PathBuf) -> Self {
        let port = platform.address().rsplit_once(':').unwrap().1;
        let home = tempfile::tempdir().unwrap();
        Self { home, server: format!("https://{name}:{port}"), ca_certificate }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tapfer();
        command.args(["--json", "--server", &self.server, "--ca-certificate"]);
        command.arg(&self.ca_certificate).arg("--home").arg(self.home.path());
        command.args(arguments).output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_till_elsewhere_pays_at_a_name() {
    let home = tempfile::tempdir().unwrap();
    let names = ["--name", "tapfer.example.org", "--name", NAME];
    let platform = Platform::listening(home.path(), EVERYWHERE, &names);
    platform.tapfer(&["init", "--balance", "300.00"]);
    let client: Value =
        serde_json::from_slice(&fs::read(home.path().join("client.json")).unwrap()).unwrap();
    let authority = home.path().join("tls").join("ca-certificate.pem");
    let till = Elsewhere::new(&platform, NAME, authority.clone());
    // What the operator gives to the merchant: ids and API keys. The phone lies beside the till.
    fs::write(till.home.path().join("client.json"), client.to_string()).unwrap();
    let phone = home.path().join("wallet");
    let pay = ["terminal", "pay", "--wallet", phone.to_str().unwrap(), "--amount", "12.00"];
    let paid = till.run(&pay);
    assert!(paid.status.success(), "{}", said(&paid));
    let identity =
        till.home.path().join("terminals").join(client["latest"]["terminal"].as_str().unwrap());
    assert!(
        identity.join("tls.json").exists(),
        "it has its own certificate for the next connection"
    );

    let (terminal, key) =
        (client["latest"]["terminal"].as_str().unwrap(), till.home.path().join("key"));
    fs::write(&key, client["keys"][terminal].as_str().unwrap()).unwrap();
    let show = ["--key-file", key.to_str().unwrap(), "terminal", "show", terminal];
    assert!(till.run(&show).status.success());
    let other = Elsewhere::new(&platform, "127.0.0.3", authority);
    let refused = other.run(&show);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("tapfer serve --name"), "{}", said(&refused));
    let stranger = tempfile::tempdir().unwrap();
    let ca = Authority::new().write(stranger.path());
    let refused = Elsewhere { ca_certificate: ca, ..till }.run(&show);
    assert!(said(&refused).contains("--ca-certificate"), "{}", said(&refused));
}

/// Somebody who signs certificates.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Self(Issuer::new(parameters, key), certificate)
    }

    fn write(&self, directory: &Path) -> PathBuf {
        let file = directory.join("ca.pem");
        fs::write(&file, &self.1).unwrap();
        file
    }

    /// Puts a certificate and its key there, for this name.
    fn certify(&self, name: &str, directory: &Path) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let files = ["server.pem", "server.key"].map(|name| directory.join(name));
        fs::write(&files[0], certificate.pem()).unwrap();
        fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }
}

#[test]
fn a_certificate_that_is_brought_serves_and_is_followed() {
    let [home, files, next] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (first, second) = (Authority::new(), Authority::new());
    let [certificate, key] = first.certify(NAME, files.path());
    let arguments = ["--certificate", certificate.to_str().unwrap(), "--certificate-key"];
    let arguments = [&arguments[..], &[key.to_str().unwrap(), "--name", NAME]].concat();
    let platform = Platform::listening(home.path(), EVERYWHERE, &arguments);
    assert!(platform.address().contains(NAME), "{}", platform.address());
    let operator = home.path().join("operator.key");
    let list = ["--key-file", operator.to_str().unwrap(), "merchant", "list"];
    let of_first = Elsewhere::new(&platform, NAME, first.write(files.path()));
    let of_second = Elsewhere::new(&platform, NAME, second.write(next.path()));
    let listed = of_first.run(&list);
    assert!(listed.status.success(), "{}", said(&listed));
    assert!(!of_second.run(&list).status.success());

    second.certify(NAME, files.path());
    let taken = || of_second.run(&list).status.success().then_some(());
    until("the new certificate is served", TAKEN_WITHIN, taken);
    assert!(!of_first.run(&list).status.success(), "the one before is not any more");
}

#[test]
fn a_certificate_for_another_name_is_refused_at_the_start() {
    let [home, files] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [certificate, key] = Authority::new().certify("tapfer.example.org", files.path());
    let mut serve = tapfer();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--name", NAME, "--certificate"]);
    serve.arg(certificate).arg("--certificate-key").arg(key).arg("--home").arg(home.path());
    let refused = serve.output().unwrap();
    assert!(!refused.status.success());
    assert!(said(&refused).contains("is not for 127.0.0.2"), "{}", said(&refused));
}
