//! The audit chain as the platform keeps it: each event a link, and a walk that finds the first one that is
//! not what it was.

use tapfer_emv::audit_chain::{AuditHash, KnownHead, link};
use tapfer_payment_types::RealmId;

use crate::audit::AuditEvent;

/// A link as it is kept beside its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Place, from 1; 0 is the beginning, before the first event.
    pub sequence: u64,
    /// [`AuditEvent::hash`].
    pub event: AuditHash,
    /// Hash of this link.
    pub hash: AuditHash,
}

impl Link {
    /// The link of the next event.
    #[must_use]
    pub fn behind(&self, event: &AuditEvent) -> Self {
        let (sequence, event) = (self.sequence.saturating_add(1), event.hash());
        Self { sequence, event, hash: link(&self.hash, sequence, &event) }
    }
}

/// What somebody did to the chain: the first place where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// An event is gone.
    #[error("event {sequence} was removed")]
    Removed {
        /// Which one.
        sequence: u64,
    },
    /// An event says something else than when it was written.
    #[error("event {sequence} was altered")]
    Altered {
        /// Which one.
        sequence: u64,
    },
    /// An event stands where another one was.
    #[error("event {sequence} was exchanged for the one that belongs in place {belongs}")]
    Swapped {
        /// Where it stands.
        sequence: u64,
        /// Where it was written.
        belongs: u64,
    },
    /// An event was put in that no link was made for.
    #[error("event {sequence} was added beside the chain")]
    Added {
        /// Which one.
        sequence: u64,
    },
    /// A link does not follow from the one before: links were rewritten too.
    #[error("link {sequence} does not follow from the one before: the chain was rewritten here")]
    Rewritten {
        /// Which one.
        sequence: u64,
    },
}

/// A walk along the chain, from its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    reached: KnownHead,
}

impl Walk {
    /// Begins before the first event.
    #[must_use]
    pub fn new(realm: RealmId) -> Self {
        Self { reached: KnownHead::beginning(realm) }
    }

    /// The next link, and the hash of the event beside it if there is one. `place_of` finds where else an event with
    /// this hash was written.
    ///
    /// # Errors
    /// [`ChainFault`]
    pub fn step(
        &mut self,
        found: &Link,
        event: Option<AuditHash>,
        place_of: impl FnOnce(&AuditHash) -> Option<u64>,
    ) -> Result<(), ChainFault> {
        let sequence = self.reached.sequence.saturating_add(1);
        if found.sequence != sequence {
            return Err(ChainFault::Removed { sequence });
        }
        let event = event.ok_or(ChainFault::Removed { sequence })?;
        if event != found.event {
            let belongs = place_of(&event).filter(|place| *place != sequence);
            return Err(match belongs {
                Some(belongs) => ChainFault::Swapped { sequence, belongs },
                None => ChainFault::Altered { sequence },
            });
        }
        let hash = link(&self.reached.hash, sequence, &event);
        if hash != found.hash {
            return Err(ChainFault::Rewritten { sequence });
        }
        self.reached.sequence = sequence;
        self.reached.hash = hash;
        Ok(())
    }

    /// How far it came.
    #[must_use]
    pub const fn reached(&self) -> &KnownHead {
        &self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::{ChainFault, Link, Walk};
    use crate::audit::{AuditAction, AuditEvent};
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;
    use tapfer_emv::audit_chain::genesis;
    use tapfer_payment_types::{RealmId, Timestamp};

    fn realm() -> RealmId {
        RealmId::new(Timestamp::from_unix_millis(1), [1; 10])
    }

    fn event(object: &str, detail: Option<&str>) -> AuditEvent {
        let at = Timestamp::from_unix_millis(7);
        let detail = detail.map(String::from);
        AuditEvent::of_platform(AuditAction::KeyRotated, object.to_string(), detail, at)
    }

    fn chain(events: &[AuditEvent]) -> Vec<Link> {
        let mut last = Link { sequence: 0, event: [0; 32], hash: genesis(realm()) };
        events
            .iter()
            .map(|event| {
                last = last.behind(event);
                last
            })
            .collect()
    }

    fn walk(links: &[Link], events: &[Option<AuditEvent>]) -> Result<u64, ChainFault> {
        let mut walk = Walk::new(realm());
        for (link, event) in links.iter().zip(events) {
            let place =
                |hash: &_| links.iter().find(|link| link.event == *hash).map(|link| link.sequence);
            walk.step(link, event.as_ref().map(AuditEvent::hash), place)?;
        }
        Ok(walk.reached().sequence)
    }

    #[test]
    fn the_first_fault_has_its_name() {
        let events: Vec<_> = (0..5).map(|number| event(&number.to_string(), None)).collect();
        let links = chain(&events);
        let whole: Vec<_> = events.iter().cloned().map(Some).collect();
        assert_eq!(walk(&links, &whole), Ok(5));

        let mut altered = whole.clone();
        altered[2] = Some(event("2", Some("approved")));
        assert_eq!(walk(&links, &altered), Err(ChainFault::Altered { sequence: 3 }));
        let mut swapped = whole.clone();
        swapped.swap(1, 3);
        let fault = ChainFault::Swapped { sequence: 2, belongs: 4 };
        assert_eq!(walk(&links, &swapped), Err(fault));
        let mut removed = whole.clone();
        removed[3] = None;
        assert_eq!(walk(&links, &removed), Err(ChainFault::Removed { sequence: 4 }));
        let (mut less, mut beside) = (links.clone(), whole.clone());
        less.remove(0);
        beside.remove(0);
        assert_eq!(walk(&less, &beside), Err(ChainFault::Removed { sequence: 1 }));
        // Event and its hash altered, but not all links behind it.
        let mut rewritten = links.clone();
        rewritten[2].event = altered[2].as_ref().unwrap().hash();
        assert_eq!(walk(&rewritten, &altered), Err(ChainFault::Rewritten { sequence: 3 }));
    }

    #[test]
    fn an_event_has_one_encoding() {
        // No text runs into the next, and none is not the empty one.
        assert_ne!(event("ab", Some("c")).encode(), event("a", Some("bc")).encode());
        assert_ne!(event("a", None).encode(), event("a", Some("")).encode());
    }

    proptest! {
        #[test]
        fn different_events_have_different_encodings(
            one in (".{0,6}", prop::option::of(".{0,6}"), any::<i64>()),
            other in (".{0,6}", prop::option::of(".{0,6}"), any::<i64>()),
        ) {
            let of = |(object, detail, at): &(String, Option<String>, i64)| AuditEvent {
                at: Timestamp::from_unix_millis(*at),
                ..event(object, detail.as_deref())
            };
            prop_assert_eq!(of(&one).encode() == of(&other).encode(), one == other);
        }
    }
}
