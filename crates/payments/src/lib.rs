//! The rules: tokens, authorization, ledger, payment intents.
