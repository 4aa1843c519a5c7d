//! Recomputes golden values and replays whole transactions.
