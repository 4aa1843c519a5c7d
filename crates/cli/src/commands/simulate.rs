//! `tapfer simulate`: the whole world in one process, on a clock of its own, with faults; and what the auditor says.

use std::ops::RangeInclusive;
use std::thread::available_parallelism;

use clap::Args;
use serde_json::json;
use tapfer_simulation::{Go, Length, Prepared, Told, run_many};

use crate::context::Context;
use crate::failure::{Ending, UsageError};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tapfer simulate --seed 17              tell the story of one seed
  tapfer simulate --seeds 1..10000       tell those to which the auditor objects
  tapfer simulate --seed 17 --steps 900  a longer one
  tapfer simulate --seed 17 --nodes 2    two nodes at one database, for which they stand in

Phones, tills, the platform, its database and its keys are the real ones; network, clocks, randomness and what a disk
loses are simulated. A seed tells the same story again, word for word. Nothing outside of a temporary directory is
touched. docs/simulation.md says what the auditor looks at.

Exit code 1 if the auditor objects; the story of the seed is told then.")]
pub(crate) struct SimulateArguments {
    /// Tell the story of this seed
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Look for objections in these seeds, the first and the last
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<RangeInclusive<u64>>,
    /// How many things happen before the faults end
    #[arg(long, value_name = "N", default_value_t = Length::default().steps)]
    steps: u64,
    /// At one node with a database of its own, or at two that share one
    #[arg(long, value_name = "1|2", default_value_t = Length::default().nodes, value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// Take this control away, to see the auditor object; only in a build with the feature planted-faults
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str| text.parse::<u64>().ok();
    let range =
        text.split_once("..").and_then(|(first, last)| Some((number(first)?, number(last)?)));
    match range {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err("give the first and the last seed, as in 1..200".to_owned()),
    }
}

pub(crate) fn run(context: &Context, arguments: &SimulateArguments) -> anyhow::Result<Ending> {
    plant(arguments.planted.as_deref())?;
    let one = arguments.seed.unwrap_or(1);
    let seeds = arguments.seeds.clone().unwrap_or(one..=one);
    let is_one = arguments.seeds.is_none();
    let length = Length { steps: arguments.steps, nodes: arguments.nodes };
    let prepared = Prepared::new()?;
    let threads = available_parallelism().map_or(1, usize::from);
    let mut sum = Sum::default();
    let mut failed = None;
    {
        let _progress = context.output.progress("simulating");
        run_many(&prepared, seeds, length, threads, |told| {
            if let Err(error) = sum.hears(context, &told, is_one) {
                failed = Some(error);
                return Go::Stop;
            }
            Go::On
        })?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    sum.tell(context);
    Ok(Ending::done_if(sum.objections == 0))
}

/// What many stories were about.
#[derive(Debug, Default)]
struct Sum {
    stories: u64,
    objections: u64,
    approved: usize,
    alone: usize,
    deaths: u32,
    letters: u64,
}

impl Sum {
    fn hears(&mut self, context: &Context, told: &Told, is_one: bool) -> anyhow::Result<()> {
        self.stories = self.stories.saturating_add(1);
        self.approved = self.approved.saturating_add(told.approved);
        self.alone = self.alone.saturating_add(told.alone);
        self.deaths = self.deaths.saturating_add(told.deaths);
        self.letters = self.letters.saturating_add(told.letters);
        self.objections = self.objections.saturating_add(u64::from(told.objection.is_some()));
        let story = if is_one || told.objection.is_some() { told.story.as_slice() } else { &[] };
        if context.output.is_json() {
            return context.output.json_line(&json!({
                "seed": told.seed,
                "approved": told.approved,
                "alone": told.alone,
                "deaths": told.deaths,
                "letters": told.letters,
                "objection": told.objection,
                "story": story,
            }));
        }
        if !story.is_empty() {
            context.output.line(format!("seed {}", told.seed));
            story.iter().for_each(|line| context.output.line(line));
        }
        Ok(())
    }

    fn tell(&self, context: &Context) {
        let Self { stories, objections, approved, alone, deaths, letters } = self;
        context.output.line(format!(
            "stories: {stories}; letters that reached the platform: {letters}; payments approved: {approved}, by nodes alone: \
             {alone}; deaths of its machine: {deaths}"
        ));
        context.output.line(match objections {
            0 => "the auditor has nothing to object to".to_owned(),
            objections => format!("the auditor objects to {objections}"),
        });
    }
}

#[cfg(feature = "planted-faults")]
fn plant(name: Option<&str>) -> anyhow::Result<()> {
    use tapfer_payment_types::planted::{Control, skip};
    let Some(name) = name else { return Ok(()) };
    let Some(control) = Control::ALL.iter().find(|control| control.name() == name) else {
        let names: Vec<_> = Control::ALL.iter().map(|control| control.name()).collect();
        return Err(UsageError(format!(
            "there is no control {name:?}; these can be taken away: {}",
            names.join(", ")
        ))
        .into());
    };
    skip(Some(*control));
    Ok(())
}

#[cfg(not(feature = "planted-faults"))]
fn plant(name: Option<&str>) -> anyhow::Result<()> {
    match name {
        None => Ok(()),
        Some(_) => Err(UsageError(
            "this build takes no control away; build one that does: cargo build --features planted-faults -p tapfer-cli"
                .to_owned(),
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::seeds;

    #[test]
    fn the_first_and_the_last() {
        assert_eq!(seeds("1..200"), Ok(1..=200));
        assert_eq!(seeds("7..7"), Ok(7..=7));
        for text in ["", "1", "..", "1..", "2..1", "1...3", "a..b", "-1..3"] {
            assert!(seeds(text).is_err(), "{text}");
        }
    }
}
