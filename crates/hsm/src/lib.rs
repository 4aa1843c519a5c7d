//! The hardware security module in the field's verbs, and its software stand-in.
