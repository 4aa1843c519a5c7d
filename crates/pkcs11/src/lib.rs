//! PKCS#11 modules, as tapfer uses them: tokens, sessions, and the key operations of a payment HSM.
//!
//! What the `cryptoki` crate has goes through it: loading and initialising a library, slots, tokens,
//! sessions, logins, random bytes. Operations with keys are called on the same handles directly, because
//! the binding lacks what a payment stands on: the derivation `CKM_AES_ECB_ENCRYPT_DATA`, the wrapping
//! `CKM_AES_KEY_WRAP_KWP`, the attribute `CKA_UNWRAP_TEMPLATE`, and results written into a buffer that is
//! there already: the binding asks for the length first, which is one call of three.
//!
//! Invariants:
//! - The only crate with `unsafe` code. What crosses the border to C are pointers into values that are
//!   borrowed for the whole call, and their true lengths.
//! - Every `C_` call is counted ([`Calls`]), those that the binding makes too.
//! - No policy: which keys there are, when to log in again and what to do about an error is decided in
//!   `tapfer-hsm`. A call that hangs, hangs: whoever cannot wait for ever asks from another process.
//! - Errors say which function answered which `CKR_`, and whose fault it is ([`Blame`]).

mod calls;
mod error;
mod mechanism;
mod module;
mod raw;
mod session;
mod template;

pub use calls::Calls;
pub use error::{Blame, Code, Error, LoginVerdict};
pub use mechanism::Mechanism;
pub use module::{Module, ModuleDescription, PinTries, Token, TokenDescription};
pub use session::{KeyHandle, Session};
pub use template::{KeyType, Template, Use};
