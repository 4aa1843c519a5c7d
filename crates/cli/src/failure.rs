//! How commands end: 0 done, 1 refused or failed, 2 used wrongly.

use std::process::ExitCode;

use tapfer_payment_types::Language;

/// The command ran, and this is what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It did what was asked.
    Done,
    /// It was answered, but with a no: a declined payment, a missing thing, a differing value.
    Refused,
}

impl Ending {
    /// `Done` if everything is as it should be.
    pub(crate) const fn done_if(good: bool) -> Self {
        if good { Self::Done } else { Self::Refused }
    }
}

/// The command line makes no sense as it was typed; found after clap had accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A tap that led to no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NothingPaid {
    /// Why, in words.
    pub(crate) why: String,
    /// What the card answered last, if it refused.
    pub(crate) status_word: Option<String>,
    /// What the terminal shows to the person.
    pub(crate) display: &'static str,
    /// The cashier's.
    pub(crate) language: Language,
}

impl std::fmt::Display for NothingPaid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (nothing, answered) = match self.language {
            Language::English => ("nothing was paid", "it answered"),
            Language::German => ("es wurde nichts bezahlt", "sie antwortete"),
        };
        write!(f, "{nothing}: {}", self.why)?;
        // What a status word means is told in English alone.
        let status = self.status_word.as_deref().map(|status| match self.language {
            Language::English => status,
            Language::German => status.split(' ').next().unwrap_or(status),
        });
        match status {
            Some(status) => write!(f, " ({answered} {status})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NothingPaid {}

/// An error with its causes, each said once: many say what their own cause says.
pub(crate) fn said(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        match said.is_empty() {
            true => cause,
            false if said.contains(&cause) => said,
            false => format!("{said}: {cause}"),
        }
    })
}

/// The exit code of a command.
pub(crate) fn exit_code(result: &anyhow::Result<Ending>) -> ExitCode {
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Refused) => ExitCode::from(1),
        Err(error) if error.downcast_ref::<UsageError>().is_some() => ExitCode::from(2),
        Err(_) => ExitCode::from(1),
    }
}

#[cfg(test)]
mod tests {
    use super::NothingPaid;
    use tapfer_payment_types::Language;

    #[test]
    fn a_german_till_speaks_german() {
        let said = |language, why: &str| {
            let status_word = Some("6985 (conditions of use not satisfied)".to_owned());
            let nothing = NothingPaid { why: why.to_owned(), status_word, display: "", language };
            nothing.to_string()
        };
        assert_eq!(
            said(Language::English, "look at the phone"),
            "nothing was paid: look at the phone (it answered 6985 (conditions of use not satisfied))"
        );
        assert_eq!(
            said(Language::German, "aufs Telefon schauen"),
            "es wurde nichts bezahlt: aufs Telefon schauen (sie antwortete 6985)"
        );
    }
}
