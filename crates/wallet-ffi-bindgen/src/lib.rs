//! Writes the bindings of `tapfer-wallet-ffi`: what the library itself says about its interface, as
//! Kotlin, Swift and Python source. A crate of its own, because the generator is much larger than what
//! it writes, and no app links it.

use std::path::Path;

use anyhow::Context as _;
use uniffi_bindgen::bindings::{GenerateOptions, TargetLanguage, generate};

/// How the bindings look in each language.
const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings.toml");

/// Writes the bindings for all three languages.
///
/// `library` is the built `libtapfer_wallet_ffi` (`.so`, `.dylib` or `.a`) with its symbols, `directory`
/// the place where the sources go; it is made if it is not there.
///
/// # Errors
/// The library cannot be read or has no interface in it, or a file cannot be written.
pub fn write_bindings(library: &Path, directory: &Path) -> anyhow::Result<()> {
    let utf8 = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let options = GenerateOptions {
        languages: vec![TargetLanguage::Kotlin, TargetLanguage::Swift, TargetLanguage::Python],
        source: utf8(library)?.into(),
        out_dir: utf8(directory)?.into(),
        config_override: Some(CONFIGURATION.into()),
        ..GenerateOptions::default()
    };
    generate(options).with_context(|| format!("cannot write the bindings of {}", library.display()))
}
