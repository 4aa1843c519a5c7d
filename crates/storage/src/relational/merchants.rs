//! Merchants.

use tapfer_payment_types::MerchantId;
use tapfer_payments::access::{ApiKey, Principal};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::issuers::CountryCode;
use tapfer_payments::merchants::Merchant;

use super::rows::{Columns, Listing, execute, first, found};
use super::sql::{Connection, Row, params};
use super::{Changed, Engine, Result, access};
use crate::{MerchantStore, Page, Slice, Write, Written};

fn find(connection: &Connection, id: MerchantId) -> Result<Option<Merchant>> {
    first(connection, "SELECT * FROM merchants WHERE id = ?1", [id.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: MerchantId) -> Result<Merchant> {
    found(find(connection, id)?, "merchant", id)
}

pub(crate) fn read(row: &Row<'_>) -> Result<Merchant> {
    let columns = Columns::new(row, "merchants");
    Ok(Merchant {
        id: columns.parse("id")?,
        name: columns.get("name")?,
        country: columns.checked("country", CountryCode::new(columns.number("country")?))?,
        category_code: columns.parse("category_code")?,
        created_at: columns.time("created_at")?,
    })
}

impl<E: Engine> MerchantStore for E {
    fn create_merchant(
        &self,
        merchant: Merchant,
        key: ApiKey,
        write: Write<Merchant>,
    ) -> Result<Written<Merchant>> {
        self.change(write, AuditAction::MerchantCreated, move |connection, _| {
            execute(
                connection,
                "INSERT INTO merchants (id, name, country, category_code, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    merchant.id.to_string(),
                    merchant.name,
                    merchant.country.numeric(),
                    merchant.category_code.to_string(),
                    merchant.created_at.unix_millis(),
                ],
            )?;
            access::insert_for(connection, &key, Principal::Merchant(merchant.id))?;
            let id = merchant.id;
            Ok(Changed::new(merchant, id).because(format!("with API key {}", key.id)))
        })
    }

    fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>> {
        self.read_apart(|connection| find(connection, id))
    }

    fn list_merchants(&self, page: Page<MerchantId>) -> Result<Slice<Merchant, MerchantId>> {
        let list = Listing { select: "SELECT * FROM merchants", key: "id", filters: &[] };
        self.read_apart(|connection| list.slice(connection, page, read, |merchant| merchant.id))
    }
}
