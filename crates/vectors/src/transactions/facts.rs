//! The card's side.
use super::Findings;
use super::file::Transaction;
pub(super) fn check(_findings: &mut Findings<'_>, _transaction: &Transaction) {}
