//! A PostgreSQL database that the command line names itself, with a login of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tapfer_payment_types::Secret;
use tapfer_server::read_private;
use tapfer_storage::postgres::PostgresOptions;

#[derive(Debug, Args)]
pub(crate) struct DatabaseAddress {
    /// PostgreSQL database, with the login of whoever asks
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// File with that login's password
    #[arg(long, value_name = "FILE", requires = "address")]
    password_file: Option<PathBuf>,
    /// Who signs the certificates of the database's servers, as PEM
    #[arg(long, value_name = "FILE", requires = "address")]
    certificate_authority: Option<PathBuf>,
}

impl DatabaseAddress {
    /// How it is reached; `None` where none is named.
    ///
    /// # Errors
    /// A file cannot be read; the address is none.
    pub(crate) fn options(&self) -> anyhow::Result<Option<PostgresOptions>> {
        let Some(address) = &self.address else { return Ok(None) };
        let read = |file: &PathBuf| fs::read(file).with_context(|| file.display().to_string());
        let secret =
            |file: &PathBuf| read_private(file).with_context(|| file.display().to_string());
        let password = self.password_file.as_ref().map(secret).transpose()?.map(Secret::new);
        let password = password.as_ref().map(|password| {
            str::from_utf8(password.expose()).map(str::trim_end).unwrap_or_default()
        });
        let authority = self.certificate_authority.as_ref().map(read).transpose()?;
        Ok(Some(PostgresOptions::new(address, password, authority.as_deref())?))
    }
}
