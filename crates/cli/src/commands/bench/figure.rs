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
