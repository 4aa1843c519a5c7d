//! Lists in pages, newest first.

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<C> {
    /// Continue behind this one; from the newest if absent.
    pub cursor: Option<C>,
    /// At most so many, 1 to 100; other values are moved into that range.
    pub limit: u16,
}

impl<C> Page<C> {
    /// The newest `limit`.
    #[must_use]
    pub const fn first(limit: u16) -> Self {
        Self { cursor: None, limit }
    }

    pub(crate) fn clamped_limit(&self) -> u16 {
        self.limit.clamp(1, 100)
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<T, C> {
    /// What is in it, newest first.
    pub items: Vec<T>,
    /// Where the next part begins, if there is one.
    pub next: Option<C>,
}

impl<T, C> Slice<T, C> {
    /// From one row more than was asked for, which tells whether there is a next part.
    pub(crate) fn from_overfull(mut items: Vec<T>, limit: u16, cursor: fn(&T) -> C) -> Self {
        let limit = usize::from(limit);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}
