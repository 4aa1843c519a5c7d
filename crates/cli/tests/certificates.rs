//! Tills and phones that prove by TLS certificates who they are, where the platform takes nothing else of them. With the
//! real binary on every side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod platform;

use std::fs;
use std::path::Path;

use platform::Platform;
use serde_json::Value;

/// The files of TLS identities under a directory, with the certificate of each.
fn identities(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(identities(&entry.path()));
        } else if entry.file_name().to_str().unwrap().ends_with("tls.json") {
            let identity: Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
            found.push(identity["certificate"].as_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn a_till_and_a_phone_pay_where_certificates_are_required() {
    let home = tempfile::tempdir().unwrap();
    let mut platform = Platform::on(home.path());
    platform.kill();
    let required = ["--client-certificates", "required", "--client-certificate-hours", "1"];
    platform.restart_with(&required);
    platform.tapfer(&["init", "--balance", "300.00"]);
    let pay = ["terminal", "pay", "--wallet", "--amount", "12.00"];
    assert_eq!(platform.tapfer(&pay)["outcome"], "approved");
    platform.tapfer(&["wallet", "replenish"]);
    let first = identities(home.path());
    assert_eq!(first.len(), 2, "the till has one, and the phone");
    assert_eq!(platform.tapfer(&pay)["outcome"], "approved");
    assert_eq!(identities(home.path()), first, "a fresh certificate serves again");

    let keys: Value =
        serde_json::from_slice(&fs::read(home.path().join("client.json")).unwrap()).unwrap();
    let terminal = keys["latest"]["terminal"].as_str().unwrap();
    let file = home.path().join("key");
    fs::write(&file, keys["keys"][terminal].as_str().unwrap()).unwrap();
    let with_key = ["--key-file", file.to_str().unwrap(), "terminal", "show", terminal];
    let refused = platform.run(&with_key);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("TLS certificate"), "{said}");

    let revoke = ["terminal", "revoke", terminal, "--reason", "stolen"];
    platform.tapfer(&revoke);
    assert!(!platform.run(&pay).status.success(), "its certificate ends with it");
}
