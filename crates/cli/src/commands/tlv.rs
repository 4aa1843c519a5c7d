//! `tapfer tlv`: card data as a tree that a person can read.

use clap::Args;
use serde_json::{Value, json};
use tapfer_emv::tlv_tree::{self, CardData, Node};

use crate::amount::hexadecimal;
use crate::context::Context;
use crate::failure::Ending;
use crate::output::{Emphasis, Output};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer tlv 6F1A840E325041592E5359532E4444463031A508BF0C0561034F01A0\n\n\
                  Card numbers are masked unless --show-card-data is given."
)]
pub(crate) struct TlvArguments {
    /// The data; blanks between the digits do no harm
    #[arg(required = true, value_name = "HEX")]
    hex: Vec<String>,
    /// Show card numbers in full
    #[arg(long)]
    show_card_data: bool,
}

pub(crate) fn run(context: &Context, arguments: &TlvArguments) -> anyhow::Result<Ending> {
    let bytes = hexadecimal(&arguments.hex.concat())?;
    let card_data = if arguments.show_card_data { CardData::Shown } else { CardData::Masked };
    let tree = tlv_tree::tree(&bytes, card_data);
    if context.output.is_json() {
        let objects: Vec<Value> = tree.nodes.iter().map(to_json).collect();
        let error = tree.error.map(|error| error.to_string());
        context.output.json_line(&json!({ "objects": objects, "error": error }))?;
    } else {
        tree.nodes.iter().for_each(|node| print(context.output, node));
        if let Some(error) = tree.error {
            context.output.remark(format!("the rest is no TLV: {error}"));
        }
    }
    Ok(Ending::done_if(tree.error.is_none()))
}

/// One data object for programs.
pub(crate) fn to_json(node: &Node) -> Value {
    json!({
        "depth": node.depth,
        "offset": node.offset,
        "tag": node.tag.to_string(),
        "name": node.name,
        "length": node.length,
        "value": node.value,
        "meanings": node.meanings,
    })
}

/// One data object for people: a line, and more for longer meanings.
pub(crate) fn print(output: Output, node: &Node) {
    let indent = "  ".repeat(node.depth);
    let tag = output.paint(Emphasis::Strong, &node.tag.to_string());
    let name = node.name.unwrap_or("(not in the dictionary)");
    let length = output.paint(Emphasis::Faint, &format!("[{}]", node.length));
    let value = node.value.as_deref().unwrap_or_default();
    output.line(format!("{indent}{tag} {name} {length} {value}").trim_end());
    for meaning in &node.meanings {
        output.line(format!("{indent}    = {meaning}"));
    }
}
