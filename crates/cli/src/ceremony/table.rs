//! Parts going out to custodians and coming in from them: over screen and keyboard, or files.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use tapfer_hsm::sharing::{Gathering, Part, PartReader, SecretKind};
use zeroize::Zeroizing;

use super::Transcript;
use crate::failure::UsageError;
use crate::output::{Output, printable};
use crate::{clock, keyboard};

/// Where parts go.
#[derive(Debug, Clone, Args)]
pub(crate) struct PartsTo {
    /// New directory for the parts, one file each, in place of the screen: to print them at the table. Wipe the medium
    /// afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) parts_into: Option<PathBuf>,
}

/// Where parts come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct PartsFrom {
    /// File with one part, in place of the keyboard; once for each part
    #[arg(long = "part", value_name = "FILE")]
    pub(crate) parts: Vec<PathBuf>,
    /// With --part: what the custodians said they agree to, in the words that they would type at the keyboard, such as
    /// "verify" or "accept catalogue 5": docs/key-ceremony.md has each act's own
    #[arg(long, value_name = "WORDS", requires = "parts")]
    pub(crate) agreed: Option<String>,
}

/// What every custodian of root keys is told before giving a part, and types to agree. Whoever has typed a part has no
/// say any more, so nobody may be taken to have come for something else.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    /// What is about to be done with what the parts rebuild, what comes of it, and who gets something.
    pub(crate) about: String,
    /// What is typed: another word for each act.
    pub(crate) word: String,
}

/// Whose parts are taken in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// Those of root keys, for what is said here and nothing else.
    RootKeys(&'a Agreement),
    /// Those of a key block protection key.
    BlockProtection,
}

impl Wanted<'_> {
    const fn kind(self) -> SecretKind {
        match self {
            Self::RootKeys(_) => SecretKind::RootKeys,
            Self::BlockProtection => SecretKind::BlockProtection,
        }
    }
}

/// Longer than any part.
const LONGEST_PART_FILE: u64 = 16 * 1024;

/// Gives each custodian a part, and writes into the transcript how.
///
/// # Errors
/// There is neither screen nor directory; a custodian gives up; a file can't be written.
pub(crate) fn hand_out(
    output: Output,
    to: &PartsTo,
    parts: &[Part],
    custodians: &[String],
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    let of = parts.len();
    if let Some(directory) = &to.parts_into {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("--parts-into {}", directory.display()))?;
        for (part, custodian) in parts.iter().zip(custodians) {
            let file = directory.join(format!("part-{}-of-{of}.txt", part.number()));
            write_part(&file, &paper(part, custodian))?;
            let how = format!("part {} of {of} for {custodian} written to a file", part.number());
            transcript.step(how);
        }
        output.remark(format!(
            "parts are in {}; print them, and wipe that medium",
            directory.display()
        ));
        return Ok(());
    }
    demand_screen()?;
    for (part, custodian) in parts.iter().zip(custodians) {
        show(output, part, custodian)?;
        transcript.step(format!(
            "part {} of {of} shown to {custodian} alone, and typed back",
            part.number()
        ));
    }
    Ok(())
}

/// Takes parts in until there are enough, and writes into the transcript which, and whose.
///
/// # Errors
/// As [`hand_out`]; parts that do not go together; two parts of one custodian; somebody does not agree.
pub(crate) fn gather(
    output: Output,
    from: &PartsFrom,
    wanted: Wanted<'_>,
    transcript: &mut Transcript,
) -> anyhow::Result<Gathering> {
    let kind = wanted.kind();
    let mut gathering = Gathering::new();
    if !from.parts.is_empty() {
        if let Wanted::RootKeys(agreement) = wanted {
            agreed_by_argument(from, agreement, transcript)?;
        }
        for file in &from.parts {
            let context = || format!("the part in {}", file.display());
            let (part, custodian) = read_part(file)?;
            let custodian = custodian.as_deref();
            take(&mut gathering, part, kind, custodian, transcript).with_context(context)?;
            let by = custodian.unwrap_or("a paper without a name");
            transcript.step(format!("part of {kind} of {by} read from a file"));
        }
        return Ok(gathering);
    }
    demand_screen()?;
    while gathering.missing().is_none_or(|missing| missing > 0) {
        // Anew for each of them, who sits down when the others have gone.
        if let Wanted::RootKeys(agreement) = wanted {
            show_agreement(output, agreement);
        }
        let custodian = ask_name(output, kind, &gathering, transcript)?;
        if let Wanted::RootKeys(agreement) = wanted {
            agree(output, agreement, &custodian, transcript)?;
        }
        let part = ask_part(output)?;
        match take(&mut gathering, part, kind, Some(&custodian), transcript) {
            Ok(()) => transcript
                .step(format!("part of {kind} typed in by somebody who gave the name {custodian}")),
            Err(error) => output.remark(format!("{error}")),
        }
    }
    Ok(gathering)
}

/// What was agreed to where no custodian sits at the keyboard.
fn agreed_by_argument(
    from: &PartsFrom,
    Agreement { about, word }: &Agreement,
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    match &from.agreed {
        Some(agreed) if agreed.trim().eq_ignore_ascii_case(word) => {
            transcript.step(format!("agreed by argument: {word}"));
            Ok(())
        }
        Some(agreed) => {
            bail!("the custodians agreed to \"{agreed}\", and this is \"{word}\"; their parts were not read")
        }
        None => Err(UsageError(format!(
            "{} The custodians' parts are in files, so say with --agreed \"{word}\" that they agreed to it",
            printable(about)
        ))
        .into()),
    }
}

/// Says what root keys are wanted for, in large.
fn show_agreement(output: Output, Agreement { about, word }: &Agreement) {
    let line = "=".repeat(72);
    output.remark(format!(
        "\n{line}\nROOT KEYS ARE WANTED FOR: {}\n\n{}\n\nWhoever came for something else gives no part.\n{line}",
        printable(&word.to_uppercase()),
        printable(about)
    ));
}

/// Asks everybody who came once more, now that what is said here is proven by the keys which they brought.
pub(crate) fn agree_again(
    output: Output,
    agreement: &Agreement,
    custodians: &[String],
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    show_agreement(output, agreement);
    custodians.iter().try_for_each(|custodian| agree(output, agreement, custodian, transcript))
}

/// Nobody stands for two.
fn demand_another(name: &str, kind: SecretKind, transcript: &Transcript) -> anyhow::Result<()> {
    let same = |other: &String| other.to_lowercase() == name.to_lowercase();
    if transcript.bringers(kind).iter().any(same) {
        bail!("{name} has given a part of {kind} already: another custodian is needed");
    }
    Ok(())
}

fn take(
    gathering: &mut Gathering,
    part: Part,
    kind: SecretKind,
    custodian: Option<&str>,
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    add(gathering, part, kind)?;
    if let Some(name) = custodian {
        demand_another(name, kind, transcript)?;
    }
    if let Some(part) = gathering.parts().last() {
        transcript.came(part, custodian);
    }
    Ok(())
}

/// The custodian says yes to what the part is wanted for, or the ceremony ends.
fn agree(
    output: Output,
    Agreement { word, .. }: &Agreement,
    custodian: &str,
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    output.prompt(&format!("{custodian}, to agree type {word}"));
    let typed = keyboard::visible_line()?.context(GIVEN_UP)?;
    if !typed.trim().eq_ignore_ascii_case(word) {
        bail!("{custodian} did not agree; nothing was changed");
    }
    transcript.step(format!("{custodian} agreed, by typing {word}"));
    Ok(())
}

fn add(gathering: &mut Gathering, part: Part, kind: SecretKind) -> anyhow::Result<u8> {
    if part.kind() != kind {
        bail!("this is a part of a {}; what is asked for here are parts of {kind}", part.kind());
    }
    Ok(gathering.add(part)?)
}

fn demand_screen() -> anyhow::Result<()> {
    if keyboard::is_there() && io::stderr().is_terminal() {
        return Ok(());
    }
    let how = "a ceremony needs a screen and a keyboard; without them give --parts-into DIR or --part FILE";
    Err(UsageError(how.to_owned()).into())
}

/// What is printed or shown for one custodian.
fn paper(part: &Part, custodian: &str) -> Zeroizing<String> {
    let (scheme, kind) = (part.scheme(), part.kind());
    let mut text = Zeroizing::new(String::with_capacity(2_048));
    text.push_str(&format!("tapfer: part {} of {} of {kind}\n", part.number(), scheme.parts()));
    text.push_str(&format!(
        "any {} parts of ceremony {} rebuild it\n",
        scheme.threshold(),
        part.ceremony()
    ));
    text.push_str(&format!("custodian: {custodian}\n\n"));
    for (number, line) in (1_u8..).zip(part.lines()) {
        text.push_str(&format!("{number:>2}   "));
        for group in line.split(' ') {
            text.push_str(group);
            text.push_str("  ");
        }
        text.push('\n');
    }
    text
}

fn write_part(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let written = options.open(file).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// A part from a file as [`write_part`] writes it, or with nothing but its groups; and whose it is, if the paper says.
fn read_part(file: &Path) -> anyhow::Result<(Part, Option<String>)> {
    let context = || format!("--part {}", file.display());
    let length = fs::metadata(file).with_context(context)?.len();
    if length > LONGEST_PART_FILE {
        bail!("{} is too long for a part", file.display());
    }
    let text = Zeroizing::new(fs::read_to_string(file).with_context(context)?);
    let mut names = text.lines().filter_map(|line| line.strip_prefix("custodian:"));
    let custodian = names.next().and_then(|name| super::checked(name).ok());
    let mut reader = PartReader::new();
    for line in text.lines().filter_map(groups_of) {
        if let Some(part) = reader.line(line).with_context(context)? {
            return Ok((part, custodian));
        }
    }
    let (typed, expected) = reader.progress();
    bail!("{} has {typed} groups of a part; {} are needed", file.display(), expected.unwrap_or(1))
}

/// The groups of a line of paper, without the number in front. `None` for lines around the part.
fn groups_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let (first, rest) = line.split_once(char::is_whitespace)?;
    let is_number = first.len() <= 2 && first.bytes().all(|byte| byte.is_ascii_digit());
    let groups = if is_number { rest.trim() } else { line };
    let all_groups = groups.split_ascii_whitespace().all(|group| group.len() == 5);
    (all_groups && !groups.is_empty()).then_some(groups)
}

/// Shows a part to its custodian, and has it typed back.
fn show(output: Output, part: &Part, custodian: &str) -> anyhow::Result<()> {
    let of = part.scheme().parts();
    output.remark(format!(
        "Part {} of {of} is for {custodian}. Everybody else turns away now.",
        part.number()
    ));
    wait(output, "Enter shows it")?;
    loop {
        output.clear_screen();
        output.remark(paper(part, custodian).as_str());
        wait(output, "Write it down. Enter clears the screen")?;
        output.clear_screen();
        output.remark(
            "Type it back, line by line; it is not shown. An empty line shows the part again.",
        );
        if let Some(typed) = type_part(output)? {
            let same = typed.lines().iter().zip(part.lines()).all(|(one, other)| **one == *other);
            if same {
                output.clear_screen();
                output.remark(format!("Part {} is written down rightly. {custodian} puts the paper into an envelope, seals it, and gets up.", part.number()));
                return Ok(());
            }
            output.remark("This is another part than the one that was shown.");
            wait(output, "Enter shows it again")?;
        }
    }
}

/// Asks who comes with the next part.
fn ask_name(
    output: Output,
    kind: SecretKind,
    so_far: &Gathering,
    transcript: &Transcript,
) -> anyhow::Result<String> {
    let missing =
        so_far.missing().map_or_else(String::new, |missing| format!(", {missing} missing"));
    output.remark(format!(
        "A part of {kind}{missing}. Only its custodian looks at keyboard and paper. The name goes into the transcript as \
         it is typed: the witness sees that it is this person's."
    ));
    loop {
        output.prompt("Custodian's name");
        let name = keyboard::visible_line()?.context(GIVEN_UP)?;
        let name = super::checked(&name).and_then(|name| {
            demand_another(&name, kind, transcript)?;
            Ok(name)
        });
        match name {
            Ok(name) => return Ok(name),
            Err(error) => output.remark(format!("{error}")),
        }
    }
}

/// Asks for a part at the keyboard.
fn ask_part(output: Output) -> anyhow::Result<Part> {
    loop {
        if let Some(part) = type_part(output)? {
            output.remark(format!("Part {} of ceremony {}.", part.number(), part.ceremony()));
            return Ok(part);
        }
    }
}

const GIVEN_UP: &str = "the ceremony was given up; nothing was changed";

/// A part, line by line without echo; a wrong line is asked for again. `None` for an empty line.
fn type_part(output: Output) -> anyhow::Result<Option<Part>> {
    let mut reader = PartReader::new();
    loop {
        let (typed, expected) = reader.progress();
        let of = expected.map_or_else(String::new, |expected| format!(" of {expected}"));
        output.prompt(&format!("from group {}{of}", typed.saturating_add(1)));
        let line = keyboard::hidden_line()?.context(GIVEN_UP)?;
        output.remark("");
        if line.trim().is_empty() {
            return Ok(None);
        }
        match reader.line(groups_of(&line).unwrap_or(&line)) {
            Ok(Some(part)) => return Ok(Some(part)),
            Ok(None) => {}
            Err(error) => output.remark(format!("{error}")),
        }
    }
}

fn wait(output: Output, what: &str) -> anyhow::Result<()> {
    output.prompt(what);
    keyboard::visible_line()?.context(GIVEN_UP)?;
    Ok(())
}

/// The moment a step is written down.
pub(super) fn now() -> tapfer_payment_types::Timestamp {
    clock::now()
}

#[cfg(test)]
mod tests {
    use super::{groups_of, paper, read_part, write_part};
    use crate::clock;
    use tapfer_hsm::sharing::{CeremonyId, Scheme, SecretKind, split};
    use tapfer_payment_types::Secret;

    #[test]
    fn a_printed_part_is_read_again() {
        let mut rng = clock::random();
        let id = CeremonyId::random(&mut rng);
        let secret = Secret::new(vec![7; 64]);
        let scheme = Scheme::new(2, 3).unwrap();
        let parts = split(SecretKind::RootKeys, &secret, scheme, id, &mut rng).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("part");
        write_part(&file, &paper(&parts[1], "Ada Lovelace")).unwrap();
        let (read, custodian) = read_part(&file).unwrap();
        assert_eq!((read.number(), read.ceremony()), (2, id));
        assert_eq!(custodian.as_deref(), Some("Ada Lovelace"));
        assert_eq!(read.lines(), parts[1].lines());
        assert!(write_part(&file, "").is_err(), "nothing is overwritten");
    }

    #[test]
    fn lines_of_a_paper_are_told_from_what_stands_around() {
        assert_eq!(groups_of(" 1   ABCDE  FGHJK"), Some("ABCDE  FGHJK"));
        assert_eq!(groups_of("12345 67890"), Some("12345 67890"));
        for line in ["", "custodian: Grace", "tapfer: part 1 of 3", "1 "] {
            assert_eq!(groups_of(line), None, "{line}");
        }
    }
}
