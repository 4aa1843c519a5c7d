//! Durable authorizations of a platform on PostgreSQL beside raw batched inserts into the same server.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tapfer_server::RealmKind;
use tapfer_server::realm::{Owner, migrate_database};

use super::super::figure::{each, micros, quotients, summary};
use super::crowd::Crowd;
use super::raw::RawInserts;
use super::server::{OWNER, PLATFORM, PostgresServer};
use crate::clock;
use crate::context::Context;
use crate::home::Home;
use crate::output::Output;
use crate::platform::open_realm;
use crate::stage::Stage;

/// Times of one payment, by round.
#[derive(Default)]
struct Measured {
    paid: Vec<Duration>,
    paid_cpu: Vec<Duration>,
    paid_server_cpu: Vec<Duration>,
    raw: Vec<Duration>,
    raw_server_cpu: Vec<Duration>,
}

/// The figures, or none and why in words where PostgreSQL is not installed.
///
/// # Errors
/// A server or platform that does not start, or a payment that is not approved.
pub(super) fn measure(
    context: &Context,
    (connections, payments): (u32, u32),
    rounds: u32,
) -> anyhow::Result<Vec<Value>> {
    let Some(programs) = PostgresServer::programs() else {
        context.output.remark(
            "authorize.over_postgres_unnest_ratio is left out: PostgreSQL's programs are not in /usr/lib/postgresql; \
             install Debian's package postgresql",
        );
        return Ok(Vec::new());
    };
    let server = PostgresServer::start(&programs)?;
    let stage = stage_on(context.output, &server)?;
    let mut crowd = Crowd::enrol(&stage, connections, payments)?;
    let mut raw = None;
    let mut measured = Measured::default();
    // One round before the first that counts, whose rows are the examples of the raw ones.
    for round in 0..=rounds {
        crowd.tap()?;
        let before = server.cpu()?;
        let mut paid = crowd.authorize()?;
        let (links, cpu) = (clock::instant(), clock::cpu());
        // What waits to be linked belongs to these payments: who reads the log waits for it.
        stage.context.client()?.get("/v1/audit/head")?;
        paid.elapsed = paid.elapsed.saturating_add(links.elapsed());
        paid.cpu = paid.cpu.saturating_add(clock::cpu().saturating_sub(cpu));
        let between = server.cpu()?;
        let inserts = match &mut raw {
            Some(inserts) => inserts,
            None => raw.insert(RawInserts::open(&server.address(OWNER))?),
        };
        let opened = server.cpu()?;
        let inserted = inserts.insert(paid.count)?;
        let after = server.cpu()?;
        if round > 0 {
            measured.paid.push(each(paid.elapsed, paid.count));
            measured.paid_cpu.push(each(paid.cpu, paid.count));
            measured.paid_server_cpu.push(each(between.saturating_sub(before), paid.count));
            measured.raw.push(each(inserted, paid.count));
            measured.raw_server_cpu.push(each(after.saturating_sub(opened), paid.count));
        }
    }
    Ok(measured.figures())
}

/// A platform whose realm is in the server's database.
fn stage_on(output: Output, server: &PostgresServer) -> anyhow::Result<Stage> {
    let directory = tempfile::Builder::new().prefix("tapfer-").tempdir()?;
    let home = Home::new(Some(directory.path().join("home")));
    fs::create_dir(home.path())?;
    let named = format!("address = \"{}\"\n", server.address(PLATFORM));
    fs::write(home.realm().database_configuration(), named)?;
    server.say(&format!("CREATE ROLE {PLATFORM} LOGIN"))?;
    // The keys come first, then their database, which only its owner can make.
    let _empty = open_realm(&home, Some(RealmKind::Demo), None);
    let owner = Owner { name: OWNER, password_file: None, partition: 0 };
    migrate_database(home.path(), owner)?;
    server.say(&format!("GRANT tapfer_server TO {PLATFORM}"))?;
    let realm = open_realm(&home, Some(RealmKind::Demo), None)?;
    Stage::serve(output, directory, home, realm)
}

impl Measured {
    fn figures(&self) -> Vec<Value> {
        const RAW: &str = "the rows of one payment, inserted raw by UNNEST in transactions of 64 into the same server";
        let ratios = quotients(&self.raw, &self.paid);
        let (raw, raw_server_cpu) = (micros(&self.raw), micros(&self.raw_server_cpu));
        let of_server = ("processor time of the server for the raw rows of one payment", "us");
        vec![
            summary("authorize.over_postgres_unnest_ratio", "ratio", &ratios, (RAW, "us"), &raw),
            summary("authorize.on_postgres_us", "us", &micros(&self.paid), (RAW, "us"), &raw),
            summary(
                "authorize.on_postgres_cpu_us",
                "us",
                &micros(&self.paid_cpu),
                of_server,
                &raw_server_cpu,
            ),
            summary(
                "authorize.on_postgres_server_cpu_us",
                "us",
                &micros(&self.paid_server_cpu),
                of_server,
                &raw_server_cpu,
            ),
        ]
    }
}
