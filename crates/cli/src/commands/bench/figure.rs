//! A figure and what was measured beside it in the same rounds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::narrate::milliseconds;
use crate::output::Output;

/// Of many rounds, in one unit.
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) minimum: f64,
    pub(super) maximum: f64,
}

impl Summary {
    /// Milliseconds; of an even number of rounds the upper median.
    pub(super) fn of(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let at = |position: usize| sorted.get(position).copied().map_or(0.0, milliseconds);
        Self {
            median: at(sorted.len().div_euclid(2)),
            minimum: at(0),
            maximum: at(sorted.len().saturating_sub(1)),
        }
    }

    /// The same in microseconds.
    pub(super) fn in_microseconds(durations: &[Duration]) -> Self {
        let summary = Self::of(durations);
        Self {
            median: summary.median * 1e3,
            minimum: summary.minimum * 1e3,
            maximum: summary.maximum * 1e3,
        }
    }
}

/// A measured figure beside another, as a JSON object.
pub(super) fn beside(
    name: &str,
    unit: &str,
    ours: &Summary,
    what: &str,
    theirs: &Summary,
    rounds: usize,
) -> Value {
    json!({
        "figure": name, "value": ours.median, "unit": unit,
        "minimum": ours.minimum, "maximum": ours.maximum, "rounds": rounds,
        "beside": {
            "what": what, "value": theirs.median, "unit": unit,
            "minimum": theirs.minimum, "maximum": theirs.maximum,
        },
    })
}

/// The share of one in what all of them took.
pub(super) fn each(whole: Duration, count: usize) -> Duration {
    whole.checked_div(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or_default()
}

/// Of numbers that fit 32 bits.
pub(super) fn quotient(dividend: u64, divisor: usize) -> f64 {
    let dividend = u32::try_from(dividend).map_or(f64::NAN, f64::from);
    dividend / u32::try_from(divisor).map_or(f64::NAN, f64::from)
}

/// How much more throughput the second has, round by round.
pub(super) fn quotients(alone: &[Duration], pooled: &[Duration]) -> Vec<f64> {
    let pairs = alone.iter().zip(pooled);
    pairs.map(|(alone, pooled)| alone.as_secs_f64() / pooled.as_secs_f64()).collect()
}

/// In microseconds.
pub(super) fn micros(durations: &[Duration]) -> Vec<f64> {
    durations.iter().map(|duration| duration.as_secs_f64() * 1e6).collect()
}

/// In milliseconds.
pub(super) fn millis(durations: &[Duration]) -> Vec<f64> {
    durations.iter().map(|duration| milliseconds(*duration)).collect()
}

/// A figure of many rounds beside another of the same rounds.
pub(super) fn summary(
    figure: &str,
    unit: &str,
    values: &[f64],
    (what, unit_beside): (&str, &str),
    beside: &[f64],
) -> Value {
    let [median, minimum, maximum] = spread(values);
    let [beside_median, beside_minimum, beside_maximum] = spread(beside);
    json!({
        "figure": figure, "value": median, "unit": unit,
        "minimum": minimum, "maximum": maximum, "rounds": values.len(),
        "beside": {
            "what": what, "value": beside_median, "unit": unit_beside,
            "minimum": beside_minimum, "maximum": beside_maximum,
        },
    })
}

/// Median, least, most.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    [at(sorted.len().div_euclid(2)), at(0), at(sorted.len().saturating_sub(1))]
}

/// One JSON object a line, or one line of words each.
pub(super) fn print(output: Output, figures: &[Value]) -> anyhow::Result<()> {
    for figure in figures {
        if output.is_json() {
            output.json_line(figure)?;
        } else {
            output.line(in_words(figure));
        }
    }
    Ok(())
}

fn in_words(figure: &Value) -> String {
    let text = |value: &Value, field: &str| match value.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.3}", number.as_f64().unwrap_or_default())
        }
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let beside = figure.get("beside").cloned().unwrap_or_default();
    format!(
        "{:<34} {:>8} {:<9} beside {} {} ({})",
        text(figure, "figure"),
        text(figure, "value"),
        text(figure, "unit"),
        text(&beside, "value"),
        text(&beside, "unit"),
        text(&beside, "what"),
    )
}

#[cfg(test)]
mod tests {
    use super::Summary;
    use std::time::Duration;

    #[test]
    fn the_median_is_the_middle() {
        let durations = [3, 1, 2].map(Duration::from_millis);
        let summary = Summary::of(&durations);
        assert_eq!((summary.minimum, summary.median, summary.maximum), (1.0, 2.0, 3.0));
    }
}
