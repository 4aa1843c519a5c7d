//! `tapfer`: the one binary. It composes wallet, terminal and platform, and is the only crate that
//! prints.

mod amount;
mod arguments;
mod card_at;
mod card_service;
mod ceremony;
mod child;
mod client;
mod clock;
mod commands;
mod configuration_file;
mod context;
mod database_address;
mod database_choice;
mod failure;
mod home;
mod hsm_state;
mod idempotency;
mod kernel_report;
mod key_supply;
mod keyboard;
mod language;
mod narrate;
mod output;
mod pcsc_reader;
mod phone;
mod phone_news;
mod pin_file;
mod pin_pad;
mod platform;
mod policy_file;
mod provisioning;
mod receipt;
mod stage;
mod store_keeper;
mod tap;
mod terminal_identity;
mod terminal_payment;
mod terminal_profile;
mod test_keys;
mod till;
mod tls_identity;
mod toml_file;
mod trouble;
mod unlock;
mod vpcd;
mod wallet_store;

use std::process::ExitCode;

fn main() -> ExitCode {
    client::install_tls_provider();
    arguments::Arguments::typed().run()
}
