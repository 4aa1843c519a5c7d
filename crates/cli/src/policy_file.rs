//! Verification policies as files: the same document as in the platform's store, in TOML.

use std::path::Path;

use anyhow::Context as _;
use tapfer_payment_types::policy::VerificationPolicy;

use crate::toml_file;

/// Reads a policy and checks that it makes sense.
///
/// # Errors
/// The file can't be read, is no such document (with the line), or makes no sense (with the reason).
pub(crate) fn read(path: &Path) -> anyhow::Result<VerificationPolicy> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the policy {}", path.display()))?;
    let policy: VerificationPolicy = toml_file::parse(&text)
        .with_context(|| format!("{} is no verification policy", path.display()))?;
    policy.check().with_context(|| format!("{} makes no sense", path.display()))?;
    Ok(policy)
}
