//! The members of `hsm.toml`: what is run beside the keys, their PINs, and their tokens, in workers of the pool that a
//! realm's server asks and in processes of the people who keep the keys.

mod environment;
mod error;
#[cfg(test)]
mod house;
mod opening;
mod pin;
mod trust;
mod workers;

pub use environment::give_environment;
pub use error::MemberError;
pub use opening::{
    begin_drill, end_drill, install_roots, look_for_roots, look_for_token, open_beside,
};
pub use pin::{check_pin, refused_pin};
pub use trust::{check_module, configuration, configuration_file};
pub use workers::{log_in, serve};
pub(crate) use workers::{may_serve_by_itself, open};
