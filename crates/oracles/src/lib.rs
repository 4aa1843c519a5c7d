//! Tests that compare tapfer's cryptography with implementations that are not ours.
//!
//! The crate is empty: everything is under `tests/`. It stands apart so that what the others depend
//! on (an older curve library, Python) stays out of every other crate.
//!
//! | test | the other implementation |
//! |---|---|
//! | `emv_crate` | the Rust crate `emv`: EC-SDSA, issuer certificates, AES and 3DES keys and cryptograms |
//! | `pyemv` | the Python package `pyemv`: 3DES keys, cryptograms and issuer responses |
//! | `psec` | the Python package `psec`: key blocks of versions B and D |
