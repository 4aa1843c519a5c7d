//! Keys from their first to their last day.

use clap::Args;
use serde_json::{Value, json};
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord, KeyState};
use tapfer_hsm::custody::{KeyPolicy, Standing};
use tapfer_payments::audit::AuditAction;
use tapfer_server::catalogue_refusal;

use super::exchange::with;
use super::held::{Occasion, Record, hold};
use super::keeper::{Order, Vault, catalogue_as_it_says, in_turn, is_in_turn, named, policy};
use crate::ceremony::{Agreement, PartsFrom};
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::output::Emphasis;
use crate::{clock, keyboard};

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only keys of this owner: platform, an issuer's id, or authority:RID-INDEX
    #[arg(long, value_name = "OWNER")]
    owner: Option<KeyOwner>,
    /// Destroyed keys too
    #[arg(long)]
    all: bool,
}

/// An owner and a purpose.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhichKey {
    /// platform, an issuer's id, or authority:RID-INDEX
    #[arg(value_name = "OWNER")]
    pub(crate) owner: KeyOwner,
    /// What the key is for, such as issuer-master
    #[arg(value_name = "PURPOSE")]
    pub(crate) purpose: KeyPurpose,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    #[command(flatten)]
    key: WhichKey,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    vault: Vault,
}

#[derive(Debug, Args)]
pub(crate) struct AdvanceArguments {
    #[command(flatten)]
    key: WhichKey,
    /// Which generation
    #[arg(value_name = "GENERATION")]
    generation: u8,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    vault: Vault,
}

#[derive(Debug, Args)]
pub(crate) struct DestroyArguments {
    #[command(flatten)]
    key: WhichKey,
    /// Which generation
    #[arg(value_name = "GENERATION")]
    generation: u8,
    #[command(flatten)]
    parts: PartsFrom,
    #[command(flatten)]
    record: Record,
    #[command(flatten)]
    order: Order,
    /// The key's name once more, such as "iss_01k... issuer-master 1"; without it the keyboard is asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// So many records of the database are lost with it, and are meant to be
    #[arg(long, value_name = "COUNT")]
    lose: Option<u64>,
}

pub(crate) fn list(context: &Context, arguments: &ListArguments) -> anyhow::Result<Ending> {
    let (records, policy) = (catalogue_as_it_says(context)?, policy(&context.home)?);
    let standings = policy.standings(&records, clock::now());
    let is_shown = |record: &KeyRecord| {
        arguments.owner.is_none_or(|owner| owner == record.name.owner)
            && (arguments.all || record.state != KeyState::Destroyed)
    };
    let shown: Vec<_> =
        records.iter().zip(&standings).filter(|(record, _)| is_shown(record)).collect();
    let is_overdue = shown.iter().any(|(_, standing)| matches!(standing, Standing::Overdue { .. }));
    let values: Vec<Value> =
        shown.iter().map(|(record, standing)| describe(record, **standing, &policy)).collect();
    let refusal = refusal(context);
    if context.output.is_json() {
        let caution = refusal.as_ref();
        let page = json!({ "data": values, "next_cursor": null, "caution": caution });
        context.output.json_line(&page)?;
    } else {
        let columns =
            ["owner", "purpose", "generation", "state", "check_value", "use_until", "remark"];
        context.output.page(&json!({ "data": values }), &columns)?;
        for (record, standing) in &shown {
            if matches!(standing, Standing::Overdue { .. }) {
                let say = advice(record.name);
                context.output.line(context.output.paint(Emphasis::Bad, &say));
            }
        }
    }
    Ok(Ending::done_if(!is_overdue && refusal.is_none()))
}

/// Why no platform starts with the catalogue that is shown, if that is so; it is said, too.
fn refusal(context: &Context) -> Option<String> {
    let refusal = catalogue_refusal(context.home.path())?;
    let caution = "CAUTION: NO PLATFORM STARTS WITH THIS CATALOGUE";
    let caution = context.output.paint(Emphasis::Bad, caution);
    context.output.remark(format!("{caution} as it is: {refusal}"));
    Some(refusal)
}

/// What to do about a key that is used longer than it should be.
fn advice(KeyName { owner, purpose, .. }: KeyName) -> String {
    let what = format!("{owner} {purpose} is used longer than it should be");
    if purpose.can_overlap() || purpose == KeyPurpose::Configuration {
        return format!("{what}: tapfer keys rotate {owner} {purpose}");
    }
    format!(
        "{what}, and has no next generation (docs/adr/0017-keys-and-their-keepers.md says why); give it a \
         cryptoperiod in keys.toml that you can answer for"
    )
}

fn describe(record: &KeyRecord, standing: Standing, policy: &KeyPolicy) -> Value {
    let KeyName { owner, purpose, generation } = record.name;
    let remark = match standing {
        Standing::Current | Standing::Ended => None,
        Standing::DueSoon { days } => Some(format!("due in {days} days")),
        Standing::Overdue { days } => Some(format!("OVERDUE for {days} days")),
        Standing::Superseded => Some("serves what was made under it".to_owned()),
    };
    let (standing, days) = match standing {
        Standing::Current => ("current", None),
        Standing::DueSoon { days } => ("due_soon", Some(days)),
        Standing::Overdue { days } => ("overdue", Some(days)),
        Standing::Superseded => ("superseded", None),
        Standing::Ended => ("ended", None),
    };
    json!({
        "owner": owner.to_string(),
        "purpose": purpose.to_string(),
        "generation": generation,
        "state": record.state.to_string(),
        "check_value": data_encoding::HEXUPPER.encode(&record.check_value),
        "created_at": record.created_at,
        "use_until": policy.end(record),
        "standing": standing,
        "days": days,
        "remark": remark,
    })
}

pub(crate) fn show(context: &Context, which: &WhichKey) -> anyhow::Result<Ending> {
    let (records, policy) = (catalogue_as_it_says(context)?, policy(&context.home)?);
    named(&records, which.owner, which.purpose, None)?;
    let standings = policy.standings(&records, clock::now());
    let same = |record: &KeyRecord| {
        (record.name.owner, record.name.purpose) == (which.owner, which.purpose)
    };
    let generations: Vec<Value> = records
        .iter()
        .zip(standings)
        .filter(|(record, _)| same(record))
        .map(|(record, standing)| describe(record, standing, &policy))
        .collect();
    let refusal = refusal(context);
    let ending = Ending::done_if(refusal.is_none());
    if context.output.is_json() {
        context.output.json_line(&json!({ "data": generations, "caution": refusal }))?;
        return Ok(ending);
    }
    for (position, generation) in generations.iter().enumerate() {
        if position > 0 {
            context.output.line("");
        }
        context.output.object(generation)?;
    }
    Ok(ending)
}

pub(crate) fn rotate(context: &Context, arguments: &RotateArguments) -> anyhow::Result<Ending> {
    let WhichKey { owner, purpose } = arguments.key;
    let is_succeeded = (owner, purpose) == (KeyOwner::Platform, KeyPurpose::Configuration);
    if !purpose.can_overlap() && !is_succeeded {
        return Err(UsageError(not_rotated(purpose)).into());
    }
    let ended = match in_turn(context)? {
        Some(ended) => ended,
        None => rotate_here(context, arguments)?,
    };
    // Not by the process that a member has to itself: what that remarks, nobody reads.
    if is_succeeded && !is_in_turn() {
        context.output.remark(BACK_UP_NOW);
    }
    Ok(ended)
}

/// What an older backup is worth behind a succession.
const BACK_UP_NOW: &str = "MAKE A BACKUP NOW (tapfer backup), or keep this keys.json: phones and tills that have \
     followed take no configuration of the old key any more, so an older backup alone cannot speak to them. With \
     this keys.json, or a later one, in the place of its own it can";

fn rotate_here(context: &Context, arguments: &RotateArguments) -> anyhow::Result<Ending> {
    let WhichKey { owner, purpose } = arguments.key;
    let keys = arguments.vault.open(context)?;
    let audit = arguments.order.audit(context)?;
    let object = format!("{owner} {purpose}");
    let rotate = || -> anyhow::Result<KeyRecord> {
        audit.over_newest(&*keys, || Ok(keys.rotate(owner, purpose, clock::now())?))
    };
    let made = audit.around(AuditAction::KeyRotated, &object, clock::now, rotate, summary)?;
    tell(context, &made)
}

/// Why a key has no next generation.
fn not_rotated(purpose: KeyPurpose) -> String {
    let why = match purpose {
        KeyPurpose::MerchantAuthority => {
            "phones hold on to it to know terminals by, and nothing tells them of another"
        }
        KeyPurpose::CertificationAuthority => {
            "cards and terminals name it by its index: an authority with another index follows it"
        }
        KeyPurpose::PanLookup => "cards are found by it, and would not be found any more",
        KeyPurpose::StoreShares => {
            "phones' stores open with what is derived from it, and with nothing else"
        }
        KeyPurpose::RepeatedRequests => {
            "requests that come again are told from new ones by it, and would be done twice"
        }
        _ => "it is none of this owner's",
    };
    format!("keys for {purpose} are not rotated: {why}")
}

pub(crate) fn retire(context: &Context, arguments: &AdvanceArguments) -> anyhow::Result<Ending> {
    let records = catalogue_as_it_says(context)?;
    let WhichKey { owner, purpose } = arguments.key;
    let name = named(&records, owner, purpose, Some(arguments.generation))?;
    let has_newer = records.iter().any(|record| {
        (record.name.owner, record.name.purpose) == (owner, purpose)
            && record.name.generation > name.generation
            && record.state == KeyState::Active
    });
    if !has_newer {
        anyhow::bail!(
            "{name} makes what is new, and nothing would take its place: rotate it first"
        );
    }
    advance(context, arguments, name, KeyState::Retired, AuditAction::KeyRetired)
}

/// Destroys a key for good: with the custodians, because nobody brings it back.
pub(crate) fn destroy(context: &Context, arguments: &DestroyArguments) -> anyhow::Result<Ending> {
    let WhichKey { owner, purpose } = arguments.key;
    let records = catalogue_as_it_says(context)?;
    let name = named(&records, owner, purpose, Some(arguments.generation))?;
    let is_retired = |record: &KeyRecord| record.name == name && record.state == KeyState::Retired;
    anyhow::ensure!(
        records.iter().any(is_retired),
        "{name} is not retired; only what makes nothing new any more is destroyed: tapfer keys retire {name} --reason TEXT"
    );
    let lost = demand_expected(context, arguments, name)?;
    let typed = match &arguments.confirm {
        Some(typed) => typed.clone(),
        None => ask_for_name(context, name)?,
    };
    if typed.trim() != name.to_string() {
        return Err(UsageError(format!(
            "nothing was destroyed: \"{}\" is not \"{name}\"",
            typed.trim()
        ))
        .into());
    }
    let occasion = Occasion {
        purpose: "a key destroyed",
        custodians: &[],
        action: AuditAction::KeyDestroyed,
        object: name.to_string(),
        order: Some(&arguments.order),
    };
    let agreement = Agreement {
        about: format!("{name} is about to be destroyed for good. Lost with it: {lost}."),
        word: "destroy".to_owned(),
    };
    let (record, told) = hold(context, &arguments.record, occasion, |ceremony| {
        let (roots, _) = ceremony.roots_of(&arguments.parts, &agreement)?;
        let keys = ceremony.keys_over(context, roots)?;
        // A platform that did not follow at once may have used the key while parts were typed.
        demand_expected(context, arguments, name)?;
        let record =
            ceremony.over_newest(&keys, || Ok(keys.set_key_state(name, KeyState::Destroyed)?))?;
        ceremony.transcript.check_value(&name.to_string(), record.check_value);
        ceremony.transcript.step(format!("{name} destroyed; lost with it: {lost}"));
        Ok(record)
    })?;
    context.output.object(&with(as_told(context, &record)?, &told))?;
    Ok(Ending::Done)
}

/// What is lost with a key, in words, if it is what was said to be lost.
fn demand_expected(
    context: &Context,
    arguments: &DestroyArguments,
    name: KeyName,
) -> anyhow::Result<String> {
    let rows = arguments.order.audit(context)?.records_under(name, clock::now())?;
    let total: u64 = rows.iter().map(|(_, count)| count).sum();
    let kinds: Vec<String> = rows.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let kinds = kinds.join(", ");
    anyhow::ensure!(
        total == arguments.lose.unwrap_or(0),
        "the database holds {total} records that {name} is needed for ({}). Without it they can never be opened or \
         checked again. {}",
        if kinds.is_empty() { "none" } else { &kinds },
        if total == 0 {
            "Leave out --lose".to_owned()
        } else {
            format!(
                "Wait until they are replaced; or, if they are meant to be lost, say so: --lose {total}"
            )
        }
    );
    Ok(if total == 0 { "nothing that the database still holds".to_owned() } else { kinds })
}

fn ask_for_name(context: &Context, name: KeyName) -> anyhow::Result<String> {
    if !keyboard::is_there() {
        return Err(UsageError(format!("give --confirm \"{name}\", or run on a terminal")).into());
    }
    context.output.remark(format!("{name} will be gone for good. Type its name to destroy it."));
    context.output.prompt("Name");
    let typed = keyboard::visible_line()?;
    Ok(typed.map(|line| line.to_string()).unwrap_or_default())
}

fn advance(
    context: &Context,
    arguments: &AdvanceArguments,
    name: KeyName,
    state: KeyState,
    action: AuditAction,
) -> anyhow::Result<Ending> {
    if let Some(ended) = in_turn(context)? {
        return Ok(ended);
    }
    let keys = arguments.vault.open(context)?;
    let audit = arguments.order.audit(context)?;
    let act = || audit.over_newest(&*keys, || anyhow::Ok(keys.advance(name, state)?));
    let record = audit.around(action, &name.to_string(), clock::now, act, summary)?;
    tell(context, &record)
}

/// What the audit log says came of it.
pub(super) fn summary(record: &KeyRecord) -> String {
    let check = data_encoding::HEXUPPER.encode(&record.check_value);
    format!("generation {} is {}, check value {check}", record.name.generation, record.state)
}

pub(super) fn tell(context: &Context, record: &KeyRecord) -> anyhow::Result<Ending> {
    context.output.object(&as_told(context, record)?)?;
    Ok(Ending::Done)
}

/// What is told of a key that was changed.
pub(super) fn as_told(context: &Context, record: &KeyRecord) -> anyhow::Result<Value> {
    let policy = policy(&context.home)?;
    let standing = match record.state {
        KeyState::Active => Standing::Current,
        KeyState::Retired | KeyState::Destroyed => Standing::Ended,
    };
    Ok(describe(record, standing, &policy))
}
