//! The catalogue: every key of a realm but the roots, wrapped, with what has to be known about it.
//!
//! It is one file, `keys.json`, that opens nothing without the root keys: a backup of it is safe to keep,
//! and another security module that was given the same roots goes on with it. A MAC under a key that
//! itself lies in the file, under the sealing root, covers every byte, so that nobody without the security
//! module can add a key, take one from another owner, or wake a destroyed one. What a MAC cannot tell is
//! an older file in the place of a newer one, or one that was made from an older file, or under another key
//! of the MAC. So each version names the MACs of all before it (64 letters a version, beside 3 kB an
//! issuer), and whoever has used one remembers its [`tapfer_payment_types::CatalogueMark`]: version, MAC,
//! and hash of the wrapped key. Pool and database take no file that does not descend from what they
//! remember ([`crate::PaymentHsm::follow_catalogue`]).
//!
//! ```json
//! {"content":{"format":2,"realm":"production","realm_id":"realm_...","version":7,"history":["...", ...],
//!  "catalogue_key":"...","releasing_check":"...",
//!  "keys":[{"owner":"iss_...","purpose":"issuer-master","generation":1, ...}]},
//!  "mac":"..."}
//! ```
//!
//! Every change takes the lock on the file, reads it again, replaces it as a whole and syncs it to the
//! disk, and only then is used. Readers hold it in memory, and look at the file again when they meet a
//! key they do not know.

mod error;
mod name;
mod record;
mod stored;

pub use error::{CatalogueError, CatalogueFault};
pub use name::{KeyName, KeyNameError, KeyOwner, KeyPurpose};
pub use record::{KeyRecord, KeyState};
pub(crate) use stored::Catalogue;
pub use stored::UnverifiedCatalogue;
