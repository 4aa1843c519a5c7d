//! What went wrong between a command and the platform, in the words of whoever reads it: cashiers and cardholders first.

use std::fmt;
use std::io;

use serde_json::Value;

use crate::language::Language;

/// A `problem+json` answer (RFC 9457).
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// HTTP status.
    pub(crate) status: u16,
    /// The whole answer.
    pub(crate) body: Value,
    /// Seconds after which to ask again, if the platform said so.
    pub(crate) wait: Option<u64>,
    /// Who reads it.
    pub(crate) language: Language,
}

impl Problem {
    /// Whether it is unknown what came of the request.
    pub(crate) fn is_undecided(&self) -> bool {
        match self.status {
            503 if self.is_refused_alone() => false,
            500 | 502 | 503 | 504 => true,
            409 => self.slug() == "idempotency_in_progress",
            _ => false,
        }
    }

    /// Whether a node that is alone, its database away, does not do this, and would not do it if it was asked again.
    pub(crate) fn is_refused_alone(&self) -> bool {
        let reason = self.text("reason");
        // The first two were begun in the database, which alone knows what came of them; the third is over in a moment.
        !["", "database_intent", "database_request", "booking"].contains(&reason)
    }

    /// The stable name of its kind; empty if it has none.
    pub(crate) fn slug(&self) -> &str {
        self.text("type").strip_prefix("urn:tapfer:problem:").unwrap_or_default()
    }

    /// A text of the answer; empty if there is none.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn in_english(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, detail) = (self.text("title"), without_position(self.text("detail")));
        match (title, detail.as_str()) {
            _ if self.status == 401 => f.write_str(
                "the API key is not known to this platform, or was taken back (a terminal's with the \
                 terminal: `tapfer terminal show`): check TAPFER_KEY or --key-file, or leave both out to \
                 use the keys in the home directory",
            )?,
            ("", "") => write!(f, "the platform answered with HTTP status {}", self.status)?,
            (title, "") => f.write_str(title)?,
            ("", detail) => f.write_str(detail)?,
            (title, detail) => write!(f, "{title}: {detail}")?,
        }
        if let Some(wait) = self.told_wait() {
            write!(f, "; ask again in {wait} s")?;
        }
        match (self.status, self.text("request_id")) {
            (401, _) | (_, "") => Ok(()),
            (_, request) => write!(f, " (request {request})"),
        }
    }

    fn in_german(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (german(self.slug()), without_position(self.text("detail"))) {
            _ if self.status == 401 => f.write_str(
                "die Plattform kennt diesen API-Schlüssel nicht, oder er wurde zurückgezogen (der eines Terminals mit dem \
                 Terminal: `tapfer terminal show`): TAPFER_KEY oder --key-file prüfen, oder beides weglassen, dann gelten \
                 die Schlüssel im Home-Verzeichnis",
            )?,
            (Some(german), _) => f.write_str(alone_in_german(self.text("reason")).unwrap_or(german))?,
            // What was sent is wrong, and only the platform knows what.
            (None, detail) if !detail.is_empty() => write!(f, "die Plattform lehnt das ab: {detail}")?,
            (None, _) => write!(f, "die Plattform antwortete mit HTTP-Status {}", self.status)?,
        }
        if let Some(wait) = self.told_wait() {
            write!(f, "; in {wait} s noch einmal")?;
        }
        match (self.status, self.text("request_id")) {
            (401, _) | (_, "") => Ok(()),
            (_, request) => write!(f, " (Anfrage {request})"),
        }
    }

    /// Of a platform that is away, a second is said for form's sake.
    fn told_wait(&self) -> Option<u64> {
        self.wait.filter(|_| self.status == 429)
    }
}

/// What cashiers and cardholders meet when nobody has done anything wrong.
const GERMAN: [(&str, &str); 10] = [
    (
        "too_many_requests",
        "zu viele Anfragen mit diesem API-Schlüssel, oder zu oft falsche Schlüssel von dieser Adresse; es wurde nichts getan",
    ),
    ("forbidden", "dieser API-Schlüssel darf das nicht"),
    (
        "client_certificate_required",
        "die Plattform verlangt hier ein TLS-Zertifikat; `tapfer` holt es sich mit dem Schlüssel aus dem Home-Verzeichnis",
    ),
    ("not_found", "das gibt es nicht, oder nicht für diesen API-Schlüssel"),
    ("device_locked", "dieses Telefon ist gesperrt"),
    ("idempotency_in_progress", "dieselbe Anfrage läuft noch; gleich noch einmal fragen"),
    (
        "database_down",
        "die Datenbank der Plattform ist nicht erreichbar; es wurde nichts getan. Es geht von selbst weiter, sobald sie \
             wieder da ist",
    ),
    (
        "hsm_down",
        "kein Sicherheitsmodul der Plattform antwortet; es wurde nichts entschieden. Wer die Plattform betreibt, sieht die \
             Ursache mit `tapfer hsm status`",
    ),
    (
        "unavailable",
        "die Plattform kann das gerade nicht beantworten. Ob es getan wurde, sagt die Wiederholung mit demselben \
             --idempotency-key",
    ),
    (
        "internal",
        "in der Plattform ist ein Fehler aufgetreten; wer sie betreibt, findet ihn unter der Nummer der Anfrage",
    ),
];

/// What a node does not do alone, for whoever stands at the till. In the order of what there is to do.
fn alone_in_german(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "not_offered" => {
            "die Datenbank der Plattform ist nicht erreichbar; solange geht nichts als kleine Zahlungen"
        }
        "counter" => {
            "bitte noch einmal vorhalten; die Plattform hat diese Zahlung nicht angenommen"
        }
        "unknown_key" => "bitte noch einmal vorhalten, mit anderer Karte, oder anders bezahlen",
        "database_intent" | "database_request" => {
            "diese Zahlung wurde begonnen, bevor die Datenbank ausfiel; ob es sie gibt, weiß man erst, wenn sie wieder da ist. \
             Bitte eine neue beginnen, wenn nicht gewartet werden kann"
        }
        "booking" => {
            "die Datenbank der Plattform ist gerade zurückgekommen; gleich noch einmal fragen"
        }
        "payment_amount" => {
            "der Betrag ist höher, als ohne Datenbank geht; bitte weniger oder anders bezahlen"
        }
        "token_payments" | "token_amount" => {
            "mit dieser Karte geht ohne Datenbank nichts mehr; bitte anders bezahlen"
        }
        "pin" => "mit PIN geht ohne Datenbank nichts; bitte anders bezahlen",
        "currency" => "in dieser Währung geht ohne Datenbank nichts; bitte anders bezahlen",
        "unknown_token" => {
            "diese Karte hat hier länger nicht bezahlt; ohne Datenbank geht sie nicht, bitte anders bezahlen"
        }
        "unknown_caller" | "unknown_terminal" => {
            "dieses Terminal wurde hier länger nicht benutzt; ohne Datenbank geht es nicht, bitte ein anderes nehmen"
        }
        "node_payments" | "node_amount" | "minutes" | "full" | "journal" => {
            "die Datenbank der Plattform ist nicht erreichbar, und ohne sie geht hier nichts mehr; bitte anders bezahlen"
        }
        _ => return None,
    })
}

fn german(slug: &str) -> Option<&'static str> {
    GERMAN.iter().find(|(known, _)| *known == slug).map(|(_, words)| *words)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.language {
            Language::English => self.in_english(f),
            Language::German => self.in_german(f),
        }
    }
}

impl std::error::Error for Problem {}

/// Where a mistake stands in JSON is of use to who wrote the JSON, and that was this program.
fn without_position(detail: &str) -> String {
    match detail
        .split_once(" (at line ")
        .and_then(|(head, rest)| Some((head, rest.split_once(')')?)))
    {
        Some((head, (_, tail))) => format!("{head}{tail}"),
        None => detail.to_owned(),
    }
}

/// The platform gave no answer: whether it did anything is unknown, and only asking again with the
/// same idempotency key tells.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    words: String,
    broke_off: bool,
}

impl NoAnswer {
    /// What the library says about a request to a server.
    pub(crate) fn from(server: &str, error: &ureq::Error, language: Language) -> Self {
        let broke_off = match error {
            ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => false,
            _ => true,
        };
        let (cause, is_of_tls) = (cause(error, language), is_of_tls(error));
        let words = match (language, is_of_tls) {
            (Language::English, true) => format!(
                "no answer from {server} ({cause}): its certificate is for another name, or not from a CA that is known \
                 here: check --server, and --home or --ca-certificate. The operator gives the platform names with tapfer \
                 serve --name"
            ),
            (Language::English, false) => format!(
                "no answer from {server} ({cause}): is `tapfer serve` running there? Start it, or give another address with --server"
            ),
            (Language::German, true) => format!(
                "keine Antwort von {server} ({cause}): ihr Zertifikat gilt für einen anderen Namen, oder hier ist nicht \
                 bekannt, wer es ausgestellt hat: --server prüfen, und --home oder --ca-certificate. Namen gibt der Betreiber \
                 der Plattform mit tapfer serve --name"
            ),
            (Language::German, false) => format!(
                "keine Antwort von {server} ({cause}): Läuft die Plattform dort? Wer sie betreibt, startet sie mit `tapfer \
                 serve`; eine andere Adresse gibt --server an"
            ),
        };
        Self { words, broke_off }
    }

    /// Whether somebody had taken the connection: what was asked may have arrived.
    pub(crate) const fn broke_off(&self) -> bool {
        self.broke_off
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for NoAnswer {}

/// What the network says, in words for people where it says something usual.
fn cause(error: &ureq::Error, language: Language) -> String {
    use Language::{English, German};
    let kind = match error {
        ureq::Error::Io(error) => Some(error.kind()),
        _ => None,
    };
    let words = match (error, kind, language) {
        (_, Some(io::ErrorKind::ConnectionRefused), English) => "nobody listens there",
        (_, Some(io::ErrorKind::ConnectionRefused), German) => "dort nimmt niemand ab",
        (ureq::Error::HostNotFound, _, English) => "nobody knows this name",
        (ureq::Error::HostNotFound, _, German) => "diesen Namen kennt niemand",
        (ureq::Error::Timeout(_), _, English) => "it took too long",
        (ureq::Error::Timeout(_), _, German) => "es dauerte zu lange",
        _ => return error.to_string(),
    };
    words.to_owned()
}

/// Whether there was no agreement on TLS; the library tells of most of it as of input and output.
fn is_of_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        _ => false,
    }
}

/// What a person can do when it is unknown what came of a command.
#[derive(Debug)]
pub(crate) struct MayBeDone {
    /// The command's idempotency key.
    pub(crate) key: String,
    /// Who reads it.
    pub(crate) language: Language,
}

impl fmt::Display for MayBeDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match self.language {
            Language::English => write!(
                f,
                "it may have been done all the same; repeat the command with --idempotency-key {key} and it is done once"
            ),
            Language::German => write!(
                f,
                "vielleicht wurde es trotzdem getan; mit --idempotency-key {key} wiederholt, geschieht es einmal"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NoAnswer, Problem};
    use crate::language::Language;
    use serde_json::{Value, json};
    use std::io;

    fn problem(status: u16, body: Value, language: Language) -> Problem {
        Problem { status, body, wait: Some(7), language }
    }

    #[test]
    fn a_problem_says_what_why_and_where_to_look_it_up() {
        let english = |status, body| problem(status, body, Language::English).to_string();
        let body =
            json!({ "title": "Card blocked", "detail": "unblock it first", "request_id": "r1" });
        assert_eq!(english(409, body), "Card blocked: unblock it first (request r1)");
        let body = json!({ "title": "Not valid", "detail": "no (at line 2, column 13) amount" });
        assert_eq!(english(400, body), "Not valid: no amount");
        assert_eq!(english(502, json!(null)), "the platform answered with HTTP status 502");
        let body = json!({ "title": "Too many requests", "detail": "wait", "request_id": "r1" });
        assert_eq!(english(429, body), "Too many requests: wait; ask again in 7 s (request r1)");
    }

    #[test]
    fn what_people_meet_is_told_in_their_language() {
        for (slug, _) in super::GERMAN {
            let body = json!({
                "type": format!("urn:tapfer:problem:{slug}"), "title": "english", "detail": "english", "request_id": "r1"
            });
            let said = problem(429, body, Language::German).to_string();
            assert!(
                !said.contains("english") && said.ends_with("; in 7 s noch einmal (Anfrage r1)"),
                "{said}"
            );
        }
        let wrong = problem(401, json!({ "detail": "english" }), Language::German).to_string();
        assert!(wrong.starts_with("die Plattform kennt diesen API-Schlüssel nicht"), "{wrong}");
        let refused = || ureq::Error::Io(io::ErrorKind::ConnectionRefused.into());
        for (language, words) in [
            (
                Language::English,
                "no answer from https://x (nobody listens there): is `tapfer serve`",
            ),
            (Language::German, "keine Antwort von https://x (dort nimmt niemand ab): Läuft"),
        ] {
            let said = NoAnswer::from("https://x", &refused(), language).to_string();
            assert!(said.starts_with(words), "{said}");
        }
    }
}
