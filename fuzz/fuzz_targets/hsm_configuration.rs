//! Any text is an `hsm.toml` or refused, and no refusal repeats what stands behind `pin`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_hsm::pool::PoolConfig;

const HEAD: &str = "[[member]]\nname = \"a\"\nmodule = \"/m\"\ntoken = \"t\"\npin = ";

fuzz_target!(|text: &str| {
    let _any = PoolConfig::parse(text);
    let marked = format!("{HEAD}\"4711{}\"", text.replace(['"', '\n', '\\'], ""));
    if let Err(error) = PoolConfig::parse(&marked) {
        assert!(!error.to_string().contains("4711"));
    }
});
