//! The one binary of tapfer.
fn main() {}
