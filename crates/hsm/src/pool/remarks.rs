//! What a worker's process writes to its standard error, for the log of the process that started it.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::ChildStderr;
use std::thread;

use super::launch::Listener;

/// What is longer is cut.
const LONGEST_LINE: u64 = 1000;

/// Hears the process until it has ended.
pub(super) fn listen(stderr: ChildStderr, mut listener: Listener) -> io::Result<()> {
    let hear = move || read(BufReader::new(stderr), &mut *listener);
    thread::Builder::new().name("hsm-remarks".to_owned()).spawn(hear).map(drop)
}

/// Gives line by line, without what would move a terminal's cursor.
fn read(mut from: impl io::BufRead, listener: &mut dyn FnMut(&str)) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
        if !text.trim().is_empty() {
            listener(text.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn every_line_is_heard_and_none_is_endless() {
        let long = "x".repeat(2500);
        let text = format!("first\r\n\n\x1b[2Jsecond\n{long}\nlast");
        let mut heard = Vec::new();
        read(text.as_bytes(), &mut |line| heard.push(line.to_owned()));
        let lengths: Vec<_> = heard.iter().map(String::len).collect();
        assert_eq!(lengths, [5, 9, 1000, 1000, 500, 4]);
        assert_eq!(heard.get(1).map(String::as_str), Some("[2Jsecond"));
    }
}
