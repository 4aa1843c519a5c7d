//! `tapfer merchant`: who is paid.

use clap::Subcommand;
use serde_json::json;

use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum MerchantCommand {
    /// Create a merchant; its API key is shown once and remembered in the home directory
    #[command(
        after_help = "Example:\n  tapfer merchant create --name \"Corner Café\" --category-code 5814"
    )]
    Create {
        /// Name on the receipt
        #[arg(long)]
        name: String,
        /// Country, ISO 3166-1 numeric
        #[arg(long, default_value = "276")]
        country: String,
        /// Merchant category code, ISO 18245
        #[arg(long, default_value = "5814")]
        category_code: String,
    },
    /// List merchants
    #[command(after_help = "Example:\n  tapfer merchant list")]
    List(PageArguments),
    /// Show one merchant
    #[command(after_help = "Example:\n  tapfer merchant show")]
    Show {
        /// Merchant id; the latest if not given
        id: Option<String>,
    },
}

pub(crate) fn run(context: &Context, command: &MerchantCommand) -> anyhow::Result<Ending> {
    match command {
        MerchantCommand::Create { name, country, category_code } => {
            let body = json!({ "name": name, "country": country, "category_code": category_code });
            let created = context.client()?.post("/v1/merchants", &body)?;
            context.remember_created("merchant", &created)?;
            context.output.object(&created)?;
        }
        MerchantCommand::List(page) => {
            let columns = ["id", "name", "country", "category_code"];
            context.list(&page.path("/v1/merchants", &[]), &columns)?;
        }
        MerchantCommand::Show { id } => {
            let id = context.id_or_latest(id, "merchant")?;
            context.show(&format!("/v1/merchants/{}", segment(&id)))?;
        }
    }
    Ok(Ending::Done)
}
