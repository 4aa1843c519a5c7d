//! JSON with secrets in it, in a buffer that never moves and is wiped.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::HsmError;

/// Counts bytes without keeping them.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `value` as JSON. It is measured first, so that the buffer does not grow and leave copies of
/// its content behind in freed memory.
pub(super) fn encode(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, HsmError> {
    let failed = |_| HsmError::Internal { operation: "writing JSON" };
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_err(failed)?;
    let mut buffer = Zeroizing::new(Vec::with_capacity(counter.0));
    serde_json::to_writer(&mut *buffer, value).map_err(failed)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn the_buffer_is_as_large_as_its_content() {
        let json = encode(&vec!["0123456789abcdef"; 100]).unwrap();
        assert_eq!(json.len(), json.capacity());
        assert_eq!(json.len(), 1 + 100 * 19);
    }
}
