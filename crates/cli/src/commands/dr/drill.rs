//! A backup, an empty place, the custodians, and one payment.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use data_encoding::HEXUPPER;
use serde_json::json;
use tapfer_hsm::software::RootKeys;
use tapfer_hsm::{SoftwareHsm, Unlock};
use tapfer_payment_types::{Currency, Money, TokenId};
use tapfer_server::{Realm, backup};
use tapfer_terminal::TapEnd;
use tapfer_wallet::{DeviceState, Token};

use super::place::{self, Place};
use super::report::Report;
use super::second_site::SecondSite;
use crate::ceremony::{
    Agreement, PartsFrom, Transcript, Wanted, gather, lock_memory, release_memory,
};
use crate::client::{Access, text_of};
use crate::clock;
use crate::context::Context;
use crate::failure::Ending;
use crate::home::{Home, create_private_directory, write_private};
use crate::phone::Phone;
use crate::platform::EmbeddedPlatform;
use crate::provisioning::{self, Replenished};
use crate::stage::set_up_till;
use crate::tap::tap;
use crate::till;
use crate::unlock;
use crate::wallet_store::{PHONE_FILE, Phone as Registered, WalletStore};

/// What the drill pays: needs nobody's PIN.
const PRICE: Money = Money::new(100, Currency::EUR);

const ROOTS_COME_BACK: &str = "the root keys come back";
const EVERY_KEY_OPENS: &str = "they open every key";

#[derive(Debug, Args)]
pub(crate) struct DrillArguments {
    /// Directory of the backup
    #[arg(long = "from", alias = "backup", value_name = "DIR")]
    backup: PathBuf,
    #[command(flatten)]
    parts: PartsFrom,
    /// hsm.toml of a second site: the root keys go onto its tokens, which have none, and are taken away again at
    /// the end
    #[arg(long, value_name = "FILE", conflicts_with = "keystore")]
    hsm: Option<PathBuf>,
    /// Open the backup's own keystore instead of asking the custodians
    #[arg(long, conflicts_with = "parts")]
    keystore: bool,
    /// With --keystore: file with its passphrase [env: TAPFER_PASSPHRASE, or TAPFER_UNLOCK_KEY]
    #[arg(long, value_name = "FILE", requires = "keystore")]
    passphrase_file: Option<PathBuf>,
    /// The wallet of a phone that was enrolled before the backup; it is copied, not changed [default: the one in the
    /// home directory]
    #[arg(long, value_name = "DIR")]
    wallet: Option<PathBuf>,
    /// New file for the report
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, arguments: &DrillArguments) -> anyhow::Result<Ending> {
    if let Some(file) = &arguments.report {
        ensure!(!file.exists(), "{} is there already; name another file", file.display());
    }
    let mut site = arguments.hsm.as_deref().map(SecondSite::read).transpose()?;
    let left = place::wipe_leftovers()?;
    if left > 0 {
        context.output.remark(format!("wiped what {left} drill(s) left that were killed"));
    }
    let place = Place::make()?;
    let home = Home::new(Some(place.path().join("home")));
    let mut report = Report::begin(context.output, &arguments.backup);
    let complete =
        drill(context, arguments, (place.path(), &home), &mut site, &mut report).is_some();
    if let Some(site) = site.filter(SecondSite::has_begun) {
        report.step("nothing of the drill is left on the tokens", || {
            Ok((site.end(&home)?, site.members()))
        });
    }
    let passed = report.end(complete);
    if let Some(file) = &arguments.report {
        report.write(file)?;
    }
    if context.output.is_json() {
        context.output.json_line(&report)?;
    } else {
        let said = if passed { "The drill is passed." } else { "The drill is NOT passed." };
        context.output.line(said);
    }
    Ok(Ending::done_if(passed))
}

/// All steps in order; `None` at the first that fails.
fn drill(
    context: &Context,
    arguments: &DrillArguments,
    (place, home): (&Path, &Home),
    site: &mut Option<SecondSite>,
    report: &mut Report,
) -> Option<()> {
    report.step("the backup is whole", || {
        let list = backup::verify(&arguments.backup)?;
        // Its database.toml names the one that payments run on.
        ensure!(
            !list.is_kept_in_postgres(),
            "its database is in PostgreSQL, and a drill brings back none. Practise with a second PostgreSQL server, by hand: \
             docs/disaster-recovery.md"
        );
        Ok(((), format!("{} of {}, {} files", list.realm, list.made_at, list.files.len())))
    })?;
    report.step("it goes into an empty place", || {
        backup::restore(&arguments.backup, home.path(), clock::now())?;
        // The real realm's modules are not a drill's business.
        match site {
            Some(site) => site.take_over(home)?,
            None => forget(&[home.realm().hsm_configuration()])?,
        }
        Ok(((), home.path().display().to_string()))
    })?;
    let realm = match site {
        Some(site) => in_hsms(context, arguments, home, site, report)?,
        None => in_software(context, arguments, home, report)?,
    };
    report.step("the audit log is unbroken", || {
        let events = realm.verify_audit()?;
        Ok(((), format!("{events} events")))
    })?;
    let (platform, address) = report.step("the platform serves", || {
        let (platform, address) = EmbeddedPlatform::serve_copy(realm)?;
        Ok(((platform, address.clone()), address))
    })?;
    let access = Access { server: Some(address), ..Access::default() };
    let there = Context { output: context.output, home: home.clone(), access };
    let wallet = arguments.wallet.clone().unwrap_or_else(|| context.home.wallet());
    let mut phone =
        report.step("a phone from before opens", || open_phone(&wallet, place, &there))?;
    report.step("it fetches new keys", || fetch_keys(&there, &mut phone))?;
    report.step("its token pays", || pay(&there, phone))?;
    drop(platform);
    Some(())
}

/// The realm over a keystore of the drill's own, or the backup's.
fn in_software(
    context: &Context,
    arguments: &DrillArguments,
    home: &Home,
    report: &mut Report,
) -> Option<Realm> {
    let paths = home.realm();
    let unlock = report.step(ROOTS_COME_BACK, || root_keys(context, arguments, home))?;
    report.step(EVERY_KEY_OPENS, || {
        let keys = SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock)?;
        let opened = keys.try_every_key()?;
        ensure!(opened > 0, "the catalogue has no keys");
        Ok((Realm::open(home.path(), &unlock)?, format!("{opened} keys")))
    })
}

/// The realm over the tokens of a second site.
fn in_hsms(
    context: &Context,
    arguments: &DrillArguments,
    home: &Home,
    site: &mut SecondSite,
    report: &mut Report,
) -> Option<Realm> {
    report.step("the tokens are ready", || Ok((site.demand_ready(home)?, site.members())))?;
    let roots =
        report.step(ROOTS_COME_BACK, || gather_roots(context, arguments, &site.in_words()))?;
    let realm = report.step(EVERY_KEY_OPENS, || {
        let opened = site.begin(home, &roots)?;
        Ok((Realm::open_in_hsms(home.path())?, format!("{opened} keys, in {}", site.members())))
    });
    drop(roots);
    release_memory();
    realm
}

/// The custodians' parts, put together.
fn gather_roots(
    context: &Context,
    arguments: &DrillArguments,
    place: &str,
) -> anyhow::Result<(RootKeys, String)> {
    let agreement = Agreement {
        about: format!(
            "A RECOVERY DRILL with the backup {}: the root keys are put into {place}, and a platform of this machine \
             alone works with them, for as long as the drill takes. Then they are wiped.",
            arguments.backup.display()
        ),
        word: "drill".to_owned(),
    };
    let memory_locked = lock_memory(context.output);
    let mut transcript = Transcript::begin("drill", memory_locked, Vec::new());
    let wanted = Wanted::RootKeys(&agreement);
    let gathering = gather(context.output, &arguments.parts, wanted, &mut transcript)?;
    let roots = RootKeys::from_shared(&gathering.secret()?)?;
    let values: Vec<String> = roots
        .check_values()?
        .iter()
        .map(|(name, value)| format!("{name} {}", HEXUPPER.encode(value)))
        .collect();
    let parts = gathering.parts().len();
    Ok((roots, format!("from {parts} custodians' parts: {}", values.join(", "))))
}

/// Puts the root keys into a keystore of the drill's own, or finds what opens the backup's.
fn root_keys(
    context: &Context,
    arguments: &DrillArguments,
    home: &Home,
) -> anyhow::Result<(Unlock, String)> {
    let paths = home.realm();
    if arguments.keystore {
        ensure!(
            paths.keystore().exists(),
            "the backup has no keystore: its root keys are in HSMs. Leave out --keystore, and let the custodians bring \
             their parts"
        );
        let file = arguments.passphrase_file.as_deref();
        return Ok((unlock::find(home, file)?, "from the keystore of the backup".to_owned()));
    }
    let place = "a software keystore of the drill's own";
    let (roots, told) = gather_roots(context, arguments, place)?;
    // The backup's own keystore must not help.
    forget(&[paths.keystore(), home.path().join("demo-unlock.key")])?;
    let (kind, realm) = tapfer_server::realm::described(&paths)
        .with_context(|| format!("{} does not describe a realm", paths.description().display()))?;
    let unlock = Unlock::key_from_hex(&clock::random_hex::<32>())?;
    let (keystore, catalogue) = (paths.keystore(), paths.catalogue());
    SoftwareHsm::install_roots(&keystore, &catalogue, &unlock, kind, realm, roots)?;
    release_memory();
    Ok((unlock, told))
}

fn forget(files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files.iter().filter(|file| file.exists()) {
        fs::remove_file(file).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// A copy of the phone, at the platform of the drill, which knows its device and takes none of its API keys.
fn open_phone(wallet: &Path, place: &Path, there: &Context) -> anyhow::Result<(Phone, String)> {
    let copy = place.join("wallet");
    create_private_directory(&copy)?;
    let mut registered = Registered::read(wallet)?;
    let operator = there.client()?;
    for registration in registered.registrations.values_mut() {
        let made = operator.post("/v1/api-keys", &json!({ "owner": registration.device }))?;
        registration.api_key = text_of(&made, "api_key")?;
    }
    for entry in fs::read_dir(wallet).with_context(|| format!("--wallet {}", wallet.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != PHONE_FILE {
            let bytes =
                fs::read(entry.path()).with_context(|| entry.path().display().to_string())?;
            write_private(&copy.join(entry.file_name()), &bytes)?;
        }
    }
    registered.write(&copy)?;
    let (store, wallet) = WalletStore::open(there, &copy)?;
    let tokens = wallet.tokens().count();
    ensure!(tokens > 0, "the phone has no token: enrol a card on it before the next backup");
    let in_hand = DeviceState { screen_on: true, unlocked: true, ..DeviceState::default() };
    let language = there.access.language.of_people();
    Ok((Phone::new(store, wallet, in_hand, language), format!("{tokens} tokens")))
}

/// New keys for the copy of the phone, from the platform of the drill: its own live for a day, and those that it was given
/// behind the backup the copy does not know.
fn fetch_keys(there: &Context, phone: &mut Phone) -> anyhow::Result<((), String)> {
    let (store, wallet) = phone.between_taps();
    let tokens: Vec<TokenId> = wallet.tokens().map(Token::id).collect();
    let mut renewed: usize = 0;
    for token in tokens {
        if provisioning::fetch(there, store, wallet, token)? != Replenished::Forgotten {
            renewed = renewed.saturating_add(1);
        }
    }
    ensure!(renewed > 0, "its token was deleted before the backup was made: enrol a card on it");
    Ok(((), format!("for {renewed} tokens")))
}

/// One payment at a terminal that is new, with a token that was there before.
fn pay(there: &Context, mut phone: Phone) -> anyhow::Result<((), String)> {
    let (till, configuration) = set_up_till(there)?;
    let intent = till.create_intent(PRICE, Some("drill"), "automatic")?;
    till.arm(intent)?;
    let terminal = till::arm(configuration, intent, PRICE)?;
    let tapped = tap(terminal, &mut phone)?;
    let TapEnd::Online(payment) = tapped.end else {
        let news: Vec<String> = phone.take_news().iter().map(|news| phone.in_words(news)).collect();
        bail!(
            "the tap did not lead to a question to the platform; the phone says: {}",
            news.join("; ")
        );
    };
    let question = till::question(intent, payment.request().chip_data());
    let answer = till.ask(&question, "drill-payment-1", Duration::ZERO)?;
    let outcome = text_of(&answer, "outcome")?;
    ensure!(outcome == "approved", "the platform declined: {answer}");
    Ok(((), format!("{PRICE} approved, {}", text_of(&answer, "id")?)))
}
