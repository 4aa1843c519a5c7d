//! `tapfer trust`: whom a terminal has to trust to take the platform's cards.

use clap::Subcommand;
use serde_json::Value;

use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Show the CA public key: RID, index and x
    #[command(
        after_help = "Example:\n  tapfer trust show\n\nThe line \"--ca-key\" is what `tapfer terminal pay` elsewhere wants to be given."
    )]
    Show,
}

pub(crate) fn run(context: &Context, command: &TrustCommand) -> anyhow::Result<Ending> {
    let TrustCommand::Show = command;
    let trust = context.client()?.get("/v1/trust")?;
    if context.output.is_json() {
        context.output.json_line(&trust)?;
        return Ok(Ending::Done);
    }
    let field = |name: &str| trust.get(name).map(plain).unwrap_or_default().to_uppercase();
    let (rid, index, x) = (field("rid"), field("ca_index"), field("ca_public_key_x"));
    let index = index.parse::<u8>().map_or(index, |number| format!("{number:02X}"));
    context.output.line(format!("RID         {rid}"));
    context.output.line(format!("index       {index}"));
    context.output.line(format!("x           {x}"));
    context.output.line(format!("--ca-key    {rid}:{index}:{x}"));
    for issuer in trust.get("issuers").and_then(Value::as_array).into_iter().flatten() {
        let field = |name: &str| issuer.get(name).map(plain).unwrap_or_default();
        context.output.line(format!("issuer      {}  {}", field("id"), field("name")));
        context.output.line(format!("  aid          {}", field("aid").to_uppercase()));
        context.output.line(format!("  certificate  {}", field("certificate").to_uppercase()));
    }
    for revoked in trust.get("revoked_certificates").and_then(Value::as_array).into_iter().flatten()
    {
        let field = |name: &str| revoked.get(name).map(plain).unwrap_or_default().to_uppercase();
        let (rid, serial) = (field("rid"), field("serial"));
        context.output.line(format!("revoked     {rid} {} {serial}", field("ca_index")));
    }
    Ok(Ending::Done)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
