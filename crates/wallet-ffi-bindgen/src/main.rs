//! `tapfer-wallet-ffi-bindgen LIBRARY DIRECTORY`: see [`tapfer_wallet_ffi_bindgen::write_bindings`].

use std::path::PathBuf;

use anyhow::bail;
use tapfer_wallet_ffi_bindgen::write_bindings;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [library, directory] = arguments.as_slice() else {
        bail!("usage: tapfer-wallet-ffi-bindgen LIBRARY DIRECTORY");
    };
    write_bindings(library, directory)
}
