//! The table of attacks against the code: what `docs/attacks.md` names must be there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A row of the table: attack, what the attacker has, control, test, what remains.
struct Row {
    attack: String,
    controls: Vec<(String, String)>,
    tests: Vec<(String, String)>,
}

/// Pairs of a file and a name in it, from code spans: a file, then the names that are in it.
fn places(cell: &str) -> Vec<(String, String)> {
    let mut file = String::new();
    let mut places = Vec::new();
    for span in cell.split('`').skip(1).step_by(2) {
        if span.ends_with(".rs") {
            span.clone_into(&mut file);
        } else {
            places.push((file.clone(), span.to_owned()));
        }
    }
    places
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/attacks.md")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let rows = lines.skip(1).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 7, "five cells and a bar on each side: {line}");
        Row { attack: cells[1].to_owned(), controls: places(cells[3]), tests: places(cells[4]) }
    });
    rows.collect()
}

fn source(attack: &str, file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{attack}: no file {file}"))
}

/// Whether the source declares a test of this name, with attributes between at most.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let function = format!("fn {name}()");
    lines.iter().position(|line| line.starts_with(&function)).is_some_and(|found| {
        let before = lines[..found].iter().rev();
        before.take_while(|line| line.starts_with("#[")).any(|line| *line == "#[test]")
    })
}

#[test]
fn every_attack_has_its_controls_and_tests_where_the_table_says() {
    let rows = rows();
    assert!(rows.len() >= 13, "{} attacks", rows.len());
    for Row { attack, controls, tests } in &rows {
        assert!(!controls.is_empty() && !tests.is_empty(), "{attack}");
        for (file, name) in controls {
            let source = source(attack, file);
            let is_declared = ["fn ", "const ", "struct "].iter().any(|kind| {
                let declared = format!("{kind}{name}");
                source.match_indices(&declared).any(|(place, _)| {
                    let next = source[place + declared.len()..].chars().next();
                    !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
                })
            });
            assert!(is_declared, "{attack}: {file} declares no {name}");
        }
        for (file, name) in tests {
            assert!(has_test(&source(attack, file), name), "{attack}: {file} has no test {name}");
        }
    }
}

/// `scripts/controls` takes something away for every attack, and knows none that the table does not.
#[test]
fn every_attack_has_a_control_that_is_taken_away() {
    let list = fs::read_to_string(root().join("scripts/controls.toml")).unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("attack = \"")?.strip_suffix('"'));
    let taken_away: BTreeSet<_> = names.map(str::to_owned).collect();
    let listed: BTreeSet<_> = rows().into_iter().map(|row| row.attack).collect();
    assert_eq!(taken_away, listed);
}

/// No attack is tested behind the table's back.
#[test]
fn every_test_of_an_attack_is_in_the_table() {
    let listed: BTreeSet<_> = rows().into_iter().flat_map(|row| row.tests).collect();
    let mut folders = vec![root().join("crates")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                let source = fs::read_to_string(&path).unwrap();
                let functions = source
                    .lines()
                    .filter_map(|line| line.trim().strip_prefix("fn attack_")?.split('(').next());
                found.extend(functions.map(|name| (file.clone(), format!("attack_{name}"))));
            }
        }
    }
    assert!(!found.is_empty());
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/attacks.md: {missing:?}");
}
