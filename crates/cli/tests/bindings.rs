//! Phones whose apps are written in other languages: the bindings are generated from the library, and
//! programs in Python and Kotlin enrol and pay through them, at the real platform and the real terminal.
//!
//! `./test` installs what they need: a Java runtime, JNA, and the Kotlin compiler under
//! `crates/wallet-ffi/tests/kotlin/node_modules`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use platform::Platform;
use tapfer_wallet_ffi_bindgen::write_bindings;
use tempfile::TempDir;

const LIBRARY: &str = "libtapfer_wallet_ffi.so";
/// Java Native Access, and the JSON classes that Android has and Java has not. Debian's.
const JARS: [&str; 2] = ["/usr/share/java/jna.jar", "/usr/share/java/json-android.jar"];
/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The library as Cargo has built it for this test, which lies beside it.
fn library() -> PathBuf {
    // Naming something of it makes Cargo build it.
    let _built = tapfer_wallet_ffi::store_report;
    std::env::current_exe().unwrap().with_file_name(LIBRARY)
}

/// The bindings in every language, with the library beside them, where each language looks for it.
fn bindings() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_bindings(&library(), directory.path()).unwrap();
    fs::copy(library(), directory.path().join(LIBRARY)).unwrap();
    directory
}

/// A platform with an issuer, a card with money, a merchant and a terminal.
fn shop() -> Platform {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "1000.00"]);
    platform
}

/// Runs a command that must succeed; what it said.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}\n{complained}");
    said + &complained
}

#[test]
fn a_phone_in_python_pays() {
    let (platform, bindings) = (shop(), bindings());
    let said = run(Command::new("/usr/bin/python3")
        .args(["-B", "-W", "error::SyntaxWarning", "test_pay.py"])
        .current_dir(root().join("crates/wallet-ffi/tests/python"))
        .env("PYTHONPATH", bindings.path())
        .env("TAPFER", env!("CARGO_BIN_EXE_tapfer"))
        .env("TAPFER_HOME", platform.home())
        .env("TAPFER_SERVER", platform.address()));
    assert!(said.contains("Ran 16 tests"), "{said}");
}

#[test]
fn a_phone_in_kotlin_pays() {
    let (platform, bindings) = (shop(), bindings());
    let program = bindings.path().join("pays.jar");
    let kotlin = root().join("crates/wallet-ffi/tests/kotlin");
    let compiler = kotlin.join("node_modules/kotlin-compiler/lib");
    let app = root().join("apps/android");
    for needed in JARS.map(PathBuf::from).iter().chain([&compiler]) {
        assert!(needed.exists(), "{} is missing: run ./test once", needed.display());
    }
    let jars = JARS.join(":");
    run(Command::new("java")
        .arg("-cp")
        .arg(compiler.join("kotlin-compiler.jar"))
        .args(["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-nowarn", "-cp", &jars, "-d"])
        .arg(&program)
        .args([bindings.path().join("tapfer"), app.join("phone/src/main/kotlin")])
        .arg(kotlin.join("PayTest.kt")));
    let class_path = [&program, &compiler.join("kotlin-stdlib.jar")];
    let class_path = class_path.map(|path| path.to_str().unwrap()).join(":") + ":" + &jars;
    let said = run(Command::new("java")
        .arg(format!("-Djna.library.path={}", bindings.path().display()))
        // Where Debian puts the native half of Java Native Access.
        .arg(format!("-Djna.boot.library.path=/usr/lib/{}-linux-gnu/jni", std::env::consts::ARCH))
        .args(["-cp", &class_path, "PayTestKt", env!("CARGO_BIN_EXE_tapfer")])
        .args([platform.home(), Path::new(platform.address())])
        .arg(app.join("app/src/main/res")));
    assert!(said.contains("15 passed, 0 failed"), "{said}");
}

/// No compiler for it here, so this shows only that the generator makes it, and of the whole interface.
#[test]
fn a_phone_in_swift_has_the_same_interface() {
    let bindings = bindings();
    let read = |name: &str| fs::read_to_string(bindings.path().join(name)).unwrap();
    let (swift, python) = (read("TapferWallet.swift"), read("tapfer_wallet_ffi.py"));
    assert!(swift.contains("open class TapferWallet"), "no class");
    for method in ["handleApdu", "replenishRequest", "accept", "reseal", "deselect", "tokens"] {
        assert!(swift.contains(&format!("open func {method}(")), "{method} is missing in Swift");
    }
    assert!(python.contains("def handle_apdu("));
    assert!(read("TapferWalletFFI.h").contains("tapfer_wallet_ffi"));
}
