//! Processor time of this process by the names of its threads, as Linux counts it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Processor time so far of threads that live, by name; threads of one name together.
pub(super) fn cpu_by_name() -> BTreeMap<String, Duration> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut by_name = BTreeMap::<String, Duration>::new();
    for (name, cpu) in threads.filter_map(|thread| one(&thread.path())) {
        let whole = by_name.entry(name).or_default();
        *whole = whole.saturating_add(cpu);
    }
    by_name
}

/// What was added to it, by name.
pub(super) fn since(
    before: &BTreeMap<String, Duration>,
    now: BTreeMap<String, Duration>,
) -> BTreeMap<String, Duration> {
    let added = now.into_iter().map(|(name, cpu)| {
        let before = before.get(&name).copied().unwrap_or_default();
        (name, cpu.saturating_sub(before))
    });
    added.collect()
}

/// A thread that ends meanwhile is left out.
fn one(thread: &Path) -> Option<(String, Duration)> {
    let name = fs::read_to_string(thread.join("comm")).ok()?;
    let statistics = fs::read_to_string(thread.join("schedstat")).ok()?;
    let nanoseconds = statistics.split(' ').next()?.parse().ok()?;
    Some((name.trim_end().to_owned(), Duration::from_nanos(nanoseconds)))
}

#[cfg(test)]
mod tests {
    use super::cpu_by_name;

    #[test]
    fn this_thread_is_among_them() {
        let sum: std::time::Duration = cpu_by_name().into_values().sum();
        assert!(!sum.is_zero());
    }
}
