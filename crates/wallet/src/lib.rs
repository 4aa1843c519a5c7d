//! The card in the phone: Kernel 8 card side, limited-use keys, counters, sealed store.
