//! A value that must not be seen, copied or compared by accident.

use core::fmt;
use zeroize::Zeroize;

/// A secret that is wiped when it goes out of scope.
///
/// It has no `Clone`, no `==` and a `Debug` that shows nothing. Whoever needs the bytes calls
/// [`Secret::expose`], and that word is what a reviewer searches for.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a secret value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Lends the secret value.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Lends the secret value for writing, so that it can be filled in place.
    pub const fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new([0x42_u8; 16]);
        assert_eq!(std::format!("{secret:?}"), "Secret(redacted)");
    }
}
