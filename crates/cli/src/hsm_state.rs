//! How a member of the pool stands, read from what the platform says of it (`GET /v1/hsm`).

use serde_json::Value;

/// How a member stands, as a person wants to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is asked, and a process of it serves.
    Serves,
    /// Nothing goes on by itself: a process of it waits for a person.
    Halted,
    /// It does not serve at this moment.
    Away,
    /// Its processes stand, and the platform says all the same that nobody serves: they do not answer.
    Silent,
}

impl Standing {
    pub(crate) fn of(member: &Value) -> Self {
        let is_asked = member.get("breaker") == Some(&Value::from("closed"));
        if is_asked && any_worker(member, "serving") {
            Self::Serves
        } else if any_worker(member, "halted") {
            Self::Halted
        } else {
            Self::Away
        }
    }

    /// As it is shown below whether anybody serves. One whose processes stand and do not answer is asked until its breaker
    /// opens: who reads that nobody serves must not read below it that this one does.
    pub(crate) fn below(somebody_serves: bool, member: &Value) -> Self {
        match Self::of(member) {
            Self::Serves if !somebody_serves => Self::Silent,
            standing => standing,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::Halted => "HALTED",
            Self::Away => "AWAY",
            Self::Silent => "DOES NOT ANSWER",
        }
    }
}

/// Whether a process of the member is in this state.
pub(crate) fn any_worker(member: &Value, state: &str) -> bool {
    let workers = member.get("workers").and_then(Value::as_array);
    workers.into_iter().flatten().any(|worker| worker.get("state") == Some(&Value::from(state)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Standing;

    #[test]
    fn a_member_without_a_process_that_serves_is_out_whatever_its_breaker_says() {
        let member = |breaker: &str, states: &[&str]| {
            let workers: Vec<_> = states.iter().map(|state| json!({ "state": state })).collect();
            Standing::of(&json!({ "breaker": breaker, "workers": workers }))
        };
        assert_eq!(member("closed", &["serving", "waiting"]), Standing::Serves);
        assert_eq!(member("closed", &["halted", "halted"]), Standing::Halted);
        assert_eq!(member("closed", &["waiting", "starting"]), Standing::Away);
        assert_eq!(member("open", &["serving", "serving"]), Standing::Away);
        assert_eq!(member("closed", &[]), Standing::Away);
    }

    #[test]
    fn where_nobody_serves_no_member_is_said_to_serve() {
        let member = |state: &str| json!({ "breaker": "closed", "workers": [{ "state": state }] });
        let stopped = member("serving");
        assert_eq!(Standing::below(true, &stopped).word(), "serves");
        assert_eq!(Standing::below(false, &stopped).word(), "DOES NOT ANSWER");
        assert_eq!(Standing::below(false, &member("halted")), Standing::Halted);
    }
}
