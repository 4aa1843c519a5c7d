//! Evidence that a phone is what it says: verified here, judged elsewhere.
//!
//! * [`key_attestation`]: a chain of X.509 certificates with which the secure hardware of an Android
//!   phone says where a key lives, how the phone was started, and which app asked
//!   (developer.android.com, "Verify hardware-backed key pairs with key attestation").
//!
//! Other evidence has its place beside it: whatever it is, it ends as a verdict of the platform on the
//! device, which `tapfer_payments::integrity` turns into allow, lower limits or refuse.
//!
//! Upper floor, but without IO: the time comes in as an argument, and roots and revocations as data.

pub mod key_attestation;
