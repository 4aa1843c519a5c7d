//! The terminal's side: the file's answers are put to our terminal.

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::tags;
use tapfer_payment_types::messages::HexBytes;
use tapfer_terminal::entry_point;
use tapfer_terminal::kernel8::{
    Action, Inputs, Kernel, KernelConfiguration, Outcome, Session, UserInterfaceRequest,
};

use super::file::{CaKey, Transaction, array, data_objects};
use super::{Findings, shown};

/// Tags To Read, as files name it.
const TAGS_TO_READ: &str = "9f8203";
/// Instruction byte of READ DATA.
const READ_DATA: u8 = 0x32;

/// Compares every command and every part of the outcome.
pub(super) fn check(findings: &mut Findings<'_>, transaction: &Transaction) {
    match run(findings, transaction) {
        Ok(outcome) => compare_outcome(findings, transaction, &outcome),
        Err(problem) => findings.compare("outcome", "an outcome", &problem),
    }
}

fn run(findings: &mut Findings<'_>, transaction: &Transaction) -> Result<Outcome, String> {
    let configuration = configuration(transaction)?;
    let mut answers = transaction.exchange.iter().enumerate();
    let select = entry_point::select(&configuration.application_identifier);
    let (number, (expected, fci)) = answers.next().ok_or("there is no exchange")?;
    compare_command(findings, number, expected, &select);
    let fci = ResponseApdu::parse(&fci.0).map_err(|error| error.to_string())?;

    let mut kernel = start(transaction, configuration, &fci)?;
    for (number, (expected, response)) in answers {
        match kernel.poll() {
            Action::Transmit(command) => compare_command(findings, number, expected, command),
            Action::Finished(_) => {
                let field = format!("exchange/{number}");
                findings.compare_bytes(&field, Some(&expected.0), None);
                break;
            }
        }
        kernel = kernel.handle_response(&response.0, transaction.command_ms.of(number));
    }
    if let Action::Transmit(command) = kernel.poll() {
        let further = command.encode().map_err(|error| error.to_string())?;
        return Err(format!("another command: {}", shown(Some(&further))));
    }
    kernel.into_outcome().ok_or_else(|| "no outcome".to_owned())
}

/// What a session brings wins over the configuration, whichever data object it is.
fn configuration(transaction: &Transaction) -> Result<KernelConfiguration, String> {
    let mut objects = data_objects(&transaction.terminal.config)?;
    objects.extend(data_objects(&transaction.terminal.session)?);
    KernelConfiguration::from_data_objects(objects).map_err(|error| error.to_string())
}

fn start(
    transaction: &Transaction,
    configuration: KernelConfiguration,
    fci: &ResponseApdu,
) -> Result<Kernel, String> {
    let terminal = &transaction.terminal;
    let wanted = envelopes_asked_for(transaction);
    let mut objects = data_objects(&terminal.session)?;
    if !terminal.config.contains_key(TAGS_TO_READ) && !terminal.session.contains_key(TAGS_TO_READ) {
        objects.push((tags::TAGS_TO_READ, &wanted));
    }
    let session = Session::from_data_objects(objects).map_err(|error| error.to_string())?;
    let inputs = Inputs {
        now: transaction.now,
        kernel_key: kernel_key(transaction)?,
        unpredictable_number: match &terminal.unpredictable_number {
            Some(number) => array(number).ok_or("unpredictable_number: not 4 bytes")?,
            None => [0; 4],
        },
    };
    let keys = vec![ca_public_key(&terminal.ca_public_key)?];
    Ok(Kernel::start(configuration, &session, keys, inputs, &fci.data))
}

/// A terminal whose caller reads envelopes one by one has no list of them: its commands are the list.
fn envelopes_asked_for(transaction: &Transaction) -> Vec<u8> {
    let commands = transaction.exchange.iter().filter_map(|(command, _)| {
        CommandApdu::parse(&command.0).ok().filter(|command| command.instruction == READ_DATA)
    });
    commands.flat_map(|command| command.data).collect()
}

/// The kernel's key. A file that has none has no command with it either, so any will do: one that was
/// sent would differ from the file's commands.
fn kernel_key(transaction: &Transaction) -> Result<PrivateKey, String> {
    let mut scalar = [0; 32];
    if let Some(last) = scalar.last_mut() {
        *last = 1;
    }
    if let Some(key) = &transaction.terminal.kernel_private {
        scalar = array(key).ok_or("kernel_private: not 32 bytes")?;
    }
    PrivateKey::from_bytes(&scalar).map_err(|error| error.to_string())
}

/// The certification authority's key, if it is one.
pub(super) fn ca_public_key(key: &CaKey) -> Result<CaPublicKey, String> {
    let [index] = array(&key.index).ok_or("ca_public_key/index: not one byte")?;
    let x = array(&key.x).ok_or("ca_public_key/x: not 32 bytes")?;
    Ok(CaPublicKey {
        rid: array(&key.rid).ok_or("ca_public_key/rid: not 5 bytes")?,
        index,
        key: PublicX::from_bytes(&x).map_err(|error| error.to_string())?,
    })
}

fn compare_command(
    findings: &mut Findings<'_>,
    number: usize,
    expected: &HexBytes,
    command: &CommandApdu,
) {
    let field = format!("exchange/{number}/command");
    match command.encode() {
        Ok(encoded) => findings.compare_bytes(&field, Some(&expected.0), Some(&encoded)),
        Err(error) => findings.compare(&field, &shown(Some(&expected.0)), &error.to_string()),
    }
}

fn compare_outcome(findings: &mut Findings<'_>, transaction: &Transaction, outcome: &Outcome) {
    let ui_request = outcome.ui_request.as_ref().map(UserInterfaceRequest::bytes);
    let on_restart = outcome.ui_request_on_restart.as_ref().map(UserInterfaceRequest::bytes);
    let parameters = outcome.parameters.bytes();
    let tvr = outcome.tvr.map(|tvr| tvr.bytes());
    let expected = &transaction.outcome;
    let record = outcome.data_record.as_ref().map(|record| record.expose());
    let fields = [
        ("9f8210", &expected.parameters, Some(parameters.as_slice())),
        ("9f8205", &expected.ui_request, ui_request.as_deref()),
        ("9f8219", &expected.ui_request_on_restart, on_restart.as_deref()),
        ("bf8103", &expected.discretionary_data, Some(outcome.discretionary_data.as_slice())),
        ("bf8102", &expected.data_record, record),
        ("tvr", &expected.tvr, tvr.as_ref().map(<[u8; 5]>::as_slice)),
        (
            "cvm_results",
            &expected.cvm_results,
            outcome.cvm_results.as_ref().map(<[u8; 3]>::as_slice),
        ),
    ];
    for (field, expected, computed) in fields {
        let expected = expected.as_ref().map(|bytes| bytes.0.as_slice());
        findings.compare_bytes(&format!("outcome/{field}"), expected, computed);
    }
}
