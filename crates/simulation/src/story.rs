//! What happened, in words: a line for each thing that somebody could have seen.

use tapfer_payment_types::Timestamp;

/// The lines so far. Names only, no ids: two runs of one seed tell the same, byte for byte.
#[derive(Debug)]
pub(crate) struct Story {
    began: Timestamp,
    lines: Vec<String>,
}

impl Story {
    pub(crate) const fn beginning(began: Timestamp) -> Self {
        Self { began, lines: Vec::new() }
    }

    pub(crate) fn tell(&mut self, now: Timestamp, words: impl AsRef<str>) {
        let millis = now.millis_since(self.began);
        let (seconds, rest) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
        self.lines.push(format!("{seconds:>5}.{rest:03} s  {}", words.as_ref()));
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// An amount as people write it.
pub(crate) fn euros(minor: i64) -> String {
    let (whole, cents) = (minor.div_euclid(100), minor.rem_euclid(100));
    format!("{whole}.{cents:02} EUR")
}
