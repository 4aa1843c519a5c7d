//! The terminal: entry point, Kernel 8, outcomes and arming.
