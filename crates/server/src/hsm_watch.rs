//! What happens to HSMs stands in the log: who fails and why, whose processes were started again, who serves no more,
//! who serves again, and whom only a person can bring back.

use std::time::Duration;

use tapfer_hsm::pool::{MemberStatus, PoolStatus};

use crate::http::App;

/// How often the pool is looked at: a few locks, no call of a module.
const LOOK: Duration = Duration::from_secs(1);

/// What was seen of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    serves: bool,
    halted: usize,
    restarts: u64,
    failed: u64,
}

/// What is said of a member.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Failed { questions: u64 },
    Restarted { processes: u64 },
    Halted { workers: usize },
    ServesNoMore,
    ServesAgain,
}

impl Seen {
    /// A member of which nothing has to be said.
    const WELL: Self = Self { serves: true, halted: 0, restarts: 0, failed: 0 };

    fn of(member: &MemberStatus) -> Self {
        let count = |state| member.workers.iter().filter(|worker| worker.state == state).count();
        let restarts = member.workers.iter().map(|worker| worker.restarts).sum();
        // It has not failed to serve as long as its first processes open their module.
        let starts = restarts == 0 && count("starting") > 0;
        Self {
            serves: member.breaker == "closed" && (count("serving") > 0 || starts),
            halted: count("halted"),
            restarts,
            failed: member.failed,
        }
    }

    /// What has become of it since.
    fn changes(self, now: Self) -> Vec<Change> {
        let questions = now.failed.saturating_sub(self.failed);
        let processes = now.restarts.saturating_sub(self.restarts);
        let mut changes = Vec::new();
        if questions > 0 {
            changes.push(Change::Failed { questions });
        }
        if processes > 0 {
            changes.push(Change::Restarted { processes });
        }
        if now.halted > self.halted {
            changes.push(Change::Halted { workers: now.halted });
        }
        match (self.serves, now.serves) {
            (true, false) => changes.push(Change::ServesNoMore),
            (false, true) => changes.push(Change::ServesAgain),
            (true, true) | (false, false) => {}
        }
        changes
    }
}

/// Looks at the pool, if there is one, for as long as the server runs.
pub(crate) async fn watch(app: App) {
    let mut timer = tokio::time::interval(LOOK);
    let mut seen: Vec<Seen> = Vec::new();
    while let Some(pool) = app.service().hsm_pool() {
        log_changes(&seen, &pool);
        seen = pool.members.iter().map(Seen::of).collect();
        timer.tick().await;
    }
}

fn log_changes(seen: &[Seen], pool: &PoolStatus) {
    for (place, member) in pool.members.iter().enumerate() {
        let before = seen.get(place).copied().unwrap_or(Seen::WELL);
        for change in before.changes(Seen::of(member)) {
            change.log(member);
        }
    }
}

impl Change {
    fn log(&self, member: &MemberStatus) {
        let (name, cause) = (&member.name, self.cause(member));
        match self {
            Self::Failed { questions } => {
                tracing::warn!(target: "tapfer::hsm", member = %name, questions, cause,
                    "an HSM failed at questions");
            }
            Self::Restarted { processes } => {
                tracing::warn!(target: "tapfer::hsm", member = %name, processes, cause,
                    "processes of an HSM are started again");
            }
            Self::Halted { workers } => {
                tracing::error!(target: "tapfer::hsm", member = %name, workers, cause,
                    "an HSM waits for a person");
            }
            Self::ServesNoMore => {
                tracing::error!(target: "tapfer::hsm", member = %name, cause, "an HSM serves no more");
            }
            Self::ServesAgain => {
                tracing::info!(target: "tapfer::hsm", member = %name, "an HSM serves again");
            }
        }
    }

    /// The latest that is known of why. Of a process that is started again and again, why it does not come up: what made
    /// its member fail first was another thing, and may be long ago.
    fn cause<'a>(&self, member: &'a MemberStatus) -> &'a str {
        let of_worker = member.workers.iter().find_map(|worker| worker.cause.as_deref());
        let of_member = member.cause.as_deref();
        let cause = match self {
            Self::Restarted { .. } | Self::Halted { .. } => of_worker.or(of_member),
            Self::Failed { .. } | Self::ServesNoMore | Self::ServesAgain => of_member.or(of_worker),
        };
        cause.unwrap_or("not known")
    }
}

#[cfg(test)]
mod tests {
    use tapfer_hsm::pool::{MemberStatus, WorkerStatus};

    use super::{Change, Seen};

    #[test]
    fn why_a_process_does_not_come_up_is_not_what_ended_the_first() {
        let worker = WorkerStatus {
            state: "waiting",
            process: None,
            is_memory_locked: None,
            waiting: 0,
            answered: 0,
            restarts: 2,
            latency_micros: None,
            cause: Some("no slot holds its token".to_owned()),
        };
        let mut member = MemberStatus {
            name: "north".to_owned(),
            breaker: "open",
            breaker_transitions: 1,
            answered: 0,
            failed: 1,
            cause: Some("its process was killed".to_owned()),
            notice: None,
            report: None,
            workers: vec![worker],
        };
        let again = Change::Restarted { processes: 2 };
        assert_eq!(again.cause(&member), "no slot holds its token");
        assert_eq!(Change::Failed { questions: 1 }.cause(&member), "its process was killed");
        member.workers.clear();
        assert_eq!(again.cause(&member), "its process was killed");
    }

    #[test]
    fn each_thing_that_happens_is_said_once() {
        let failing = Seen { failed: 3, ..Seen::WELL };
        let gone = Seen { serves: false, restarts: 2, ..failing };
        let halted = Seen { halted: 1, ..gone };
        let back = Seen { restarts: 2, ..failing };
        let story = [Seen::WELL, failing, failing, gone, halted, halted, back];
        let told: Vec<_> = story.windows(2).flat_map(|pair| pair[0].changes(pair[1])).collect();
        let expected = [
            Change::Failed { questions: 3 },
            Change::Restarted { processes: 2 },
            Change::ServesNoMore,
            Change::Halted { workers: 1 },
            Change::ServesAgain,
        ];
        assert_eq!(told, expected);
    }
}
