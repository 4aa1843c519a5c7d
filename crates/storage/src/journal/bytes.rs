//! How values lie in a record of the journal: numbers big-endian, texts and byte strings with their length in front,
//! what may be absent behind a byte that says whether it is there.

/// The bytes are no record: they end too early, or say what no record says. Names the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no record of a payment: {0}")]
pub(crate) struct NoRecord(pub(crate) &'static str);

type Result<T> = std::result::Result<T, NoRecord>;

/// Takes values from the front.
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    fn raw(&mut self, length: usize, what: &'static str) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NoRecord(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        self.raw(N, what)?.try_into().map_err(|_| NoRecord(what))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64> {
        self.array(what).map(i64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self, what: &'static str) -> Result<u128> {
        self.array(what).map(u128::from_be_bytes)
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(NoRecord(what)),
        }
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let length = usize::try_from(self.u32(what)?).map_err(|_| NoRecord(what))?;
        self.raw(length, what)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| NoRecord(what))
    }

    /// A word, a code: anything that is read from text.
    pub(crate) fn parse<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T> {
        self.text(what)?.parse().map_err(|_| NoRecord(what))
    }

    pub(crate) fn option<T>(
        &mut self,
        what: &'static str,
        take: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.flag(what)? { take(self).map(Some) } else { Ok(None) }
    }
}

/// Puts values behind one another.
#[derive(Default)]
pub(crate) struct Put(pub(crate) Vec<u8>);

impl Put {
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        // Nothing that is kept comes near this length.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.raw(&length.to_be_bytes());
        self.raw(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }
}
