//! Pauses for addresses from which wrong credentials come, that grow with each one more.
//!
//! Nobody can lock somebody else out. Pauses belong to an address, and not to the account that is guessed at; credentials
//! that were right before are looked up in a pause too; and a certificate is no guess at all, and never pauses. What is left is
//! a neighbour behind the same address whose credentials were not used since the start: it waits a pause, at most.

use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::connections::client_of;

/// The first pause; each wrong credential behind it doubles the next.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Who has tried nothing wrong for so long begins anew.
const FORGIVEN: Duration = Duration::from_secs(3_600);
/// So many addresses, and so many right credentials, are remembered; then old ones are forgotten.
const REMEMBERED: usize = 100_000;

/// Addresses with wrong credentials, and credentials that were right.
#[derive(Debug)]
pub(super) struct Lockout {
    /// Wrong ones before the first pause; 0: there is none.
    free: u32,
    addresses: HashMap<IpAddr, Wrong>,
    right: HashSet<[u8; 32]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Wrong {
    count: u32,
    until: Duration,
    latest: Duration,
}

impl Lockout {
    pub(super) fn new(free: u32) -> Self {
        Self { free, addresses: HashMap::new(), right: HashSet::new() }
    }

    /// Whether these may be looked up; else how long to pause.
    pub(super) fn may_try(
        &self,
        from: IpAddr,
        credential: &[u8; 32],
        now: Duration,
    ) -> Result<(), Duration> {
        let Some(wrong) = self.addresses.get(&client_of(from)) else { return Ok(()) };
        let left = wrong.until.saturating_sub(now);
        if left.is_zero() || self.right.contains(credential) { Ok(()) } else { Err(left) }
    }

    /// They were right.
    pub(super) fn right(&mut self, credential: &[u8; 32]) {
        if self.right.contains(credential) {
            return;
        }
        if self.right.len() >= REMEMBERED {
            self.right.clear();
        }
        self.right.insert(*credential);
    }

    /// They were wrong, or are no more. Gives the pause that begins with them, if one does.
    pub(super) fn wrong(
        &mut self,
        from: IpAddr,
        credential: &[u8; 32],
        now: Duration,
    ) -> Option<Duration> {
        self.right.remove(credential);
        if self.free == 0 {
            return None;
        }
        let is_over = |wrong: &Wrong| now.saturating_sub(wrong.latest) >= FORGIVEN;
        if self.addresses.len() >= REMEMBERED {
            self.addresses.retain(|_, wrong| !is_over(wrong));
        }
        if self.addresses.len() >= REMEMBERED {
            self.addresses.clear();
        }
        let wrong = self.addresses.entry(client_of(from)).or_default();
        if is_over(wrong) {
            *wrong = Wrong::default();
        }
        wrong.count = wrong.count.saturating_add(1);
        wrong.latest = now;
        let doublings = wrong.count.checked_sub(self.free)?;
        let factor = 2_u32.saturating_pow(doublings);
        let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
        wrong.until = now.saturating_add(pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_PAUSE, Lockout};
    use core::time::Duration;
    use std::net::IpAddr;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn pauses_grow_with_each_wrong_credential() {
        let (mut lockout, from) = (Lockout::new(3), address("192.0.2.1"));
        let (mut now, mut pauses) = (seconds(10), Vec::new());
        for guess in 0..14 {
            let pause = lockout.may_try(from, &[guess; 32], now).err().unwrap_or_default();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(lockout.may_try(from, &[guess; 32], now), Ok(()), "the time told is right");
            lockout.wrong(from, &[guess; 32], now);
        }
        assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(lockout.may_try(from, &[99; 32], now), Err(LONGEST_PAUSE));
        now += seconds(3_600);
        lockout.wrong(from, &[99; 32], now);
        assert_eq!(lockout.may_try(from, &[99; 32], now), Ok(()), "an hour later it begins anew");
    }

    #[test]
    fn nobody_is_locked_out_by_somebody_else() {
        let (mut lockout, from) = (Lockout::new(1), address("2001:db8:1:2::1"));
        let (own, guess) = ([1; 32], [2; 32]);
        lockout.right(&own);
        for _ in 0..20 {
            lockout.wrong(from, &guess, seconds(1));
        }
        assert!(lockout.may_try(address("2001:db8:1:2::ffff"), &guess, seconds(1)).is_err());
        assert_eq!(lockout.may_try(address("2001:db8:1:3::1"), &guess, seconds(1)), Ok(()));
        assert_eq!(lockout.may_try(from, &own, seconds(1)), Ok(()), "it was right before");
        lockout.wrong(from, &own, seconds(1));
        assert!(lockout.may_try(from, &own, seconds(1)).is_err(), "and is no more");
    }

    #[test]
    fn where_there_are_no_pauses_there_are_none() {
        let (mut lockout, from) = (Lockout::new(0), address("192.0.2.1"));
        for _ in 0..50 {
            lockout.wrong(from, &[1; 32], seconds(1));
        }
        assert_eq!(lockout.may_try(from, &[1; 32], seconds(1)), Ok(()));
    }
}
