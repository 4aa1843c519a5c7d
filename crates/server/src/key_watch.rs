//! A running platform takes over what the people who keep the keys do, without a restart: they change the
//! catalogue's file, and this looks whether it is another one. It also says which keys are due.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tapfer_hsm::FileStamp;
use tapfer_hsm::catalogue::{KeyRecord, UnverifiedCatalogue};
use tapfer_hsm::custody::{KeyPolicy, Standing};
use tapfer_payment_types::{IssuerId, Timestamp};
use tokio::sync::Notify;

use crate::http::App;
use crate::metrics;
use crate::realm::RealmPaths;
use crate::server;
use crate::service::{Service, ServiceError};

/// How often the file is looked at: one call to the system.
const LOOK: Duration = Duration::from_secs(2);
/// The longest pause before issuers that cannot be followed are tried again, in looks: an hour.
const LONGEST_PAUSE: u32 = 1_800;
/// How often keys are looked through although nothing changed: they grow older by themselves.
const LOOKS_BETWEEN_WARNINGS: u32 = 1_800;

/// Issuers whose keys could not be followed. Tried again after pauses that grow: what is wrong with one of them may
/// stay so until a person acts, and is no load beside the payments of the others.
#[derive(Debug, Default)]
struct Backlog {
    issuers: Vec<IssuerId>,
    /// In looks at the file.
    pause: u32,
    waited: u32,
}

impl Backlog {
    const fn of(issuers: Vec<IssuerId>) -> Self {
        Self { issuers, pause: 1, waited: 0 }
    }

    /// Asked once for each look.
    const fn is_due(&mut self) -> bool {
        self.waited = self.waited.saturating_add(1);
        !self.issuers.is_empty() && self.waited > self.pause
    }

    /// They were tried, and these still cannot be followed.
    fn remains(&mut self, issuers: Vec<IssuerId>) {
        let pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        *self = Self { issuers, pause, waited: 0 };
    }
}

/// Follows the catalogue for as long as the server runs. What fails is tried again.
pub(crate) async fn watch(app: App, paths: RealmPaths, policy: Arc<KeyPolicy>) {
    let catalogue = paths.catalogue();
    let mut timer = tokio::time::interval(LOOK);
    let mut followed = None;
    let mut backlog = Backlog::default();
    let mut looks = 0_u32;
    let news = Arc::new(Notify::new());
    let tell = Arc::clone(&news);
    app.service().tell_of_news(Box::new(move || tell.notify_one()));
    loop {
        tokio::select! {
            _ = timer.tick() => {
                let _stands = app.run(look_again).await;
            }
            () = news.notified() => {
                // What another platform has made lies in the catalogue's file then, and is followed as if people had put it there.
                if let Err(problem) = app.run(Service::follow_catalogue).await {
                    let problem = problem.kind();
                    tracing::warn!(target: "tapfer::keys", ?problem, "news of keys could not be followed");
                }
            }
        }
        let stamp = FileStamp::of(&catalogue).ok();
        let is_changed = stamp != followed;
        if is_changed {
            if let Some(failed) = follow(&app, &paths).await {
                followed = stamp;
                backlog = Backlog::of(failed);
            }
        } else if backlog.is_due() {
            let issuers = backlog.issuers.clone();
            let again = app.run(move |service| service.follow_keys_again(&issuers)).await;
            let failed = again.unwrap_or_else(|_| backlog.issuers.clone());
            backlog.remains(failed);
        }
        // By itself, for it may go on longer than this waits: who follows keys is not kept by it, nor tries again.
        if let Err(problem) = app.run(Service::renew_api_keys).await {
            let problem = problem.kind();
            tracing::warn!(target: "tapfer::keys", ?problem,
                "API keys are not all signed anew yet: it goes on, or is tried again");
        }
        if is_changed || looks == 0 {
            let (path, policy) = (catalogue.clone(), Arc::clone(&policy));
            let look = app.run(move |service| {
                warn(&path, &policy, service.now());
                Ok(())
            });
            let look = look.await;
            if look.is_err() {
                tracing::warn!(target: "tapfer::keys", "keys could not be looked through");
            }
        }
        looks = looks.wrapping_add(1) % LOOKS_BETWEEN_WARNINGS;
    }
}

/// Where no key can be used, perhaps for want of a catalogue that the database knows: custodians may have accepted one
/// meanwhile.
fn look_again(service: &Service) -> Result<(), ServiceError> {
    if service.hsm_is_down() {
        service.check()?;
    }
    Ok(())
}

/// Gives the issuers whose keys could not be followed; `None`: nobody's could.
async fn follow(app: &App, paths: &RealmPaths) -> Option<Vec<IssuerId>> {
    let paths = paths.clone();
    let follow = app.run(move |service| {
        let followed = service.follow_keys();
        // Also if an issuer could not be followed: what is set up from here on starts with the key of now.
        if let Err(error) = server::write_configuration_key(service, &paths) {
            tracing::warn!(target: "tapfer::keys", %error, "configuration.key could not be written");
        }
        followed
    });
    let result = follow.await;
    if let Err(problem) = &result {
        let problem = problem.kind();
        tracing::warn!(target: "tapfer::keys", ?problem, "keys could not be followed");
    }
    result.ok()
}

/// Says which keys are due, in the log and in the metrics. What the file says of itself is good enough for
/// that: whoever can change it can do worse.
fn warn(catalogue: &Path, policy: &KeyPolicy, now: Timestamp) {
    let Ok(bytes) = fs::read(catalogue) else { return };
    let Ok(read) = UnverifiedCatalogue::parse(&bytes) else { return };
    let records: Vec<KeyRecord> = read.records().cloned().collect();
    let (mut due_soon, mut overdue) = (0_u32, 0_u32);
    for (record, standing) in records.iter().zip(policy.standings(&records, now)) {
        let key = record.name;
        match standing {
            Standing::DueSoon { days } => {
                due_soon = due_soon.saturating_add(1);
                tracing::info!(target: "tapfer::keys", %key, days, "a key's cryptoperiod ends soon");
            }
            Standing::Overdue { days } => {
                overdue = overdue.saturating_add(1);
                tracing::warn!(target: "tapfer::keys", %key, days, "a key is used longer than it should be");
            }
            Standing::Current | Standing::Superseded | Standing::Ended => {}
        }
    }
    metrics::keys(due_soon, overdue);
}

#[cfg(test)]
mod tests {
    use tapfer_payment_types::{IssuerId, Timestamp};

    use super::{Backlog, LONGEST_PAUSE};

    #[test]
    fn an_issuer_that_cannot_be_followed_is_tried_less_and_less() {
        let broken = || vec![IssuerId::new(Timestamp::from_unix_millis(1), [1; 10])];
        let mut backlog = Backlog::of(broken());
        let looks = 43_200;
        let mut tried = Vec::new();
        for look in 1..=looks {
            if backlog.is_due() {
                tried.push(look);
                backlog.remains(broken());
            }
        }
        assert_eq!(tried.get(..4), Some(&[2, 5, 10, 19][..]));
        assert!(tried.len() < 40, "in a day: {tried:?}");
        let last = tried.iter().rev().take(2).copied().collect::<Vec<u32>>();
        assert!(matches!(last[..], [end, before] if end - before == LONGEST_PAUSE + 1), "{last:?}");

        backlog.remains(Vec::new());
        assert!((0..looks).all(|_| !backlog.is_due()), "nobody is left");
    }
}
