//! The control file: what to do wrong.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Mutex;

use cryptoki_sys::*;

/// What a function does instead of its work.
pub(crate) enum Fault {
    None,
    Answer(CK_RV),
    Hang,
    Abort,
}

/// The file's content for which a rule that begins with `once` has struck.
static STRUCK: Mutex<String> = Mutex::new(String::new());

/// What this function is to do now. Reads the file at every call, so that a test changes it at any time.
pub(crate) fn fault(function: &str) -> Fault {
    count(function);
    let Some(path) = std::env::var_os("FAULTY_CONTROL") else { return Fault::None };
    let Ok(content) = fs::read_to_string(path) else { return Fault::None };
    say(function, &content);
    content.lines().find_map(|line| rule(line, function, &content)).unwrap_or(Fault::None)
}

/// Writes to the standard error what a line `say FUNCTION TEXT` has for this function, as vendors' libraries do.
fn say(function: &str, content: &str) {
    let lines = content.lines().filter_map(|line| line.trim().strip_prefix("say "));
    for (_, text) in lines.filter_map(|line| line.split_once(' ')).filter(|(of, _)| *of == function)
    {
        eprintln!("{text}");
    }
}

/// What the token is to say of itself beside the truth: a line `flags NAME...`.
pub(crate) fn flags() -> CK_FLAGS {
    let Some(path) = std::env::var_os("FAULTY_CONTROL") else { return 0 };
    let content = fs::read_to_string(path).unwrap_or_default();
    let words = content.lines().filter_map(|line| line.trim().strip_prefix("flags "));
    words.flat_map(str::split_whitespace).fold(0, |flags, name| {
        flags
            | match name {
                "CKF_USER_PIN_COUNT_LOW" => CKF_USER_PIN_COUNT_LOW,
                "CKF_USER_PIN_FINAL_TRY" => CKF_USER_PIN_FINAL_TRY,
                "CKF_USER_PIN_LOCKED" => CKF_USER_PIN_LOCKED,
                _ => 0,
            }
    })
}

/// Attributes that the module is not to know: a line `unknown NAME...`.
pub(crate) fn unknown() -> Vec<CK_ATTRIBUTE_TYPE> {
    let Some(path) = std::env::var_os("FAULTY_CONTROL") else { return Vec::new() };
    let content = fs::read_to_string(path).unwrap_or_default();
    let words = content.lines().filter_map(|line| line.trim().strip_prefix("unknown "));
    let named = |name| match name {
        "CKA_ALLOWED_MECHANISMS" => Some(CKA_ALLOWED_MECHANISMS),
        "CKA_DESTROYABLE" => Some(CKA_DESTROYABLE),
        "CKA_UNWRAP_TEMPLATE" => Some(CKA_UNWRAP_TEMPLATE),
        _ => None,
    };
    words.flat_map(str::split_whitespace).filter_map(named).collect()
}

/// A line: `[once] FAULT [FUNCTION]...`
fn rule(line: &str, function: &str, content: &str) -> Option<Fault> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace().peekable();
    if matches!(words.peek(), Some(&"flags" | &"unknown" | &"say")) {
        return None;
    }
    let once = words.next_if_eq(&"once").is_some();
    let fault = named(words.next()?);
    let functions: Vec<&str> = words.collect();
    // A library whose device is gone can still be put away.
    let concerned = match functions.as_slice() {
        [] => !matches!(function, "C_Finalize" | "C_CloseSession"),
        named => named.contains(&function),
    };
    if !concerned {
        return None;
    }
    if once {
        let mut struck = STRUCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *struck == content {
            return None;
        }
        content.clone_into(&mut struck);
    }
    Some(fault)
}

fn named(fault: &str) -> Fault {
    Fault::Answer(match fault {
        "hang" => return Fault::Hang,
        "abort" => return Fault::Abort,
        "CKR_DEVICE_ERROR" => CKR_DEVICE_ERROR,
        "CKR_DEVICE_REMOVED" => CKR_DEVICE_REMOVED,
        "CKR_FUNCTION_FAILED" => CKR_FUNCTION_FAILED,
        "CKR_GENERAL_ERROR" => CKR_GENERAL_ERROR,
        "CKR_SESSION_HANDLE_INVALID" => CKR_SESSION_HANDLE_INVALID,
        "CKR_KEY_HANDLE_INVALID" => CKR_KEY_HANDLE_INVALID,
        "CKR_USER_NOT_LOGGED_IN" => CKR_USER_NOT_LOGGED_IN,
        "CKR_TOKEN_NOT_PRESENT" => CKR_TOKEN_NOT_PRESENT,
        "CKR_CRYPTOKI_NOT_INITIALIZED" => CKR_CRYPTOKI_NOT_INITIALIZED,
        "CKR_PIN_INCORRECT" => CKR_PIN_INCORRECT,
        "CKR_PIN_EXPIRED" => CKR_PIN_EXPIRED,
        "CKR_PIN_LOCKED" => CKR_PIN_LOCKED,
        "CKR_USER_PIN_NOT_INITIALIZED" => CKR_USER_PIN_NOT_INITIALIZED,
        "CKR_VENDOR_DEFINED" => CKR_VENDOR_DEFINED | 1,
        "CKR_MECHANISM_INVALID" => CKR_MECHANISM_INVALID,
        // A misspelt rule must not pass for a module that is well.
        _ => CKR_FUNCTION_REJECTED,
    })
}

/// Writes one line for each call to the file `FAULTY_CALLS`, if there is one to be written.
pub(crate) fn count(function: &str) {
    let Some(path) = std::env::var_os("FAULTY_CALLS") else { return };
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        // A line that is lost is noticed by the test that counts.
        let _ = writeln!(file, "{function}");
    }
}
