use getrandom::SysRng;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use rand_core::UnwrapErr;
use tapfer_payment_types::Secret;

use super::{CeremonyId, Gathering, Part, PartReader, Scheme, SecretKind, SharingError, split};

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn parts(secret: &[u8], threshold: u8, parts: u8) -> Vec<Part> {
    let kind = if secret.len() == 64 { SecretKind::RootKeys } else { SecretKind::BlockProtection };
    let scheme = Scheme::new(threshold, parts).unwrap();
    let id = CeremonyId::random(&mut rng());
    split(kind, &Secret::new(secret.to_vec()), scheme, id, &mut rng()).unwrap()
}

fn text(part: &Part) -> String {
    part.lines().iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// Off and onto paper.
fn copied(part: &Part) -> Part {
    PartReader::whole(&text(part)).unwrap()
}

fn gathered<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Gathering {
    let mut gathering = Gathering::new();
    for part in parts {
        gathering.add(copied(part)).unwrap();
    }
    gathering
}

#[test]
fn two_to_sixteen_parts() {
    for threshold in 0..20 {
        for parts in 0..20 {
            let sound = (2..=parts).contains(&threshold) && parts <= 16;
            assert_eq!(Scheme::new(threshold, parts).is_ok(), sound, "{threshold} of {parts}");
        }
    }
}

proptest! {
    #[test]
    fn any_threshold_of_parts_gives_the_secret(
        secret in prop_oneof![
            proptest::collection::vec(any::<u8>(), 64), proptest::collection::vec(any::<u8>(), 32),
        ],
        (count, threshold, chosen) in (2_u8..=16)
            .prop_flat_map(|count| (Just(count), 2..=count))
            .prop_flat_map(|(count, threshold)| {
                let numbers: Vec<usize> = (0..usize::from(count)).collect();
                let least = usize::from(threshold);
                (Just(count), Just(threshold), subsequence(numbers, least..=usize::from(count)).prop_shuffle())
            }),
    ) {
        let parts = parts(&secret, threshold, count);
        let gathering = gathered(chosen.iter().map(|at| &parts[*at]));
        prop_assert_eq!(gathering.missing(), Some(0));
        let rebuilt = gathering.secret().unwrap();
        prop_assert_eq!(rebuilt.expose(), &secret);
    }

    #[test]
    fn one_part_too_few_is_not_enough(secret in proptest::collection::vec(any::<u8>(), 64), threshold in 2_u8..=16) {
        let parts = parts(&secret, threshold, 16);
        let few = usize::from(threshold.saturating_sub(1));
        let gathering = gathered(&parts[..few]);
        prop_assert_eq!(gathering.missing(), Some(1));
        let need = usize::from(threshold);
        prop_assert_eq!(gathering.secret().unwrap_err(), SharingError::TooFew { have: few, need });
    }

    /// Whatever is typed in place of one letter, the group it stands in is named.
    #[test]
    fn a_typing_mistake_is_found_and_located(at in any::<Index>(), letter in "[0-9A-HJKMNP-TV-Z]") {
        let parts = parts(&[0x5A; 64], 2, 3);
        let right = text(&parts[0]);
        let places: Vec<usize> =
            right.char_indices().filter(|(_, c)| !c.is_whitespace()).map(|(at, _)| at).collect();
        let place = at.index(places.len());
        let mut wrong = right.clone();
        wrong.replace_range(places[place]..=places[place], &letter);
        prop_assume!(wrong != right);
        let error = PartReader::whole(&wrong).unwrap_err();
        prop_assert_eq!(error, SharingError::Mistyped { group: (place / 5).saturating_add(1) });
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9A-Za-z \n]{0,300}") {
        prop_assert!(PartReader::whole(&text).is_err());
    }
}

/// With one part too few every secret is as likely as any other: all 256 values of a byte fit.
#[test]
fn too_few_parts_say_nothing() {
    let mut seen = [false; 256];
    for _ in 0..4_000 {
        let parts = parts(&[0xAB; 32], 2, 2);
        seen[usize::from(parts[0].share.expose()[0])] = true;
    }
    assert!(seen.iter().all(|seen| *seen));
}

#[test]
fn only_the_wrong_line_is_typed_again() {
    let parts = parts(&[7; 64], 2, 3);
    let lines = parts[1].lines();
    assert_eq!(lines.len(), 8);
    let mut reader = PartReader::new();
    assert!(reader.line(&lines[0]).unwrap().is_none());
    assert!(matches!(reader.line(&lines[2]), Err(SharingError::Mistyped { group: 5 })));
    assert_eq!(reader.progress(), (4, Some(32)));
    for line in &lines[1..7] {
        assert!(reader.line(line).unwrap().is_none());
    }
    let part = reader.line(&lines[7]).unwrap().unwrap();
    assert_eq!(part.number(), 2);
    assert!(matches!(reader.line("00000"), Err(SharingError::TooManyGroups { expected: 32 })));
    let short: Vec<&str> = lines[..7].iter().map(|line| line.as_str()).collect();
    let short = PartReader::whole(&short.join(" ")).unwrap_err();
    assert_eq!(short, SharingError::TooFewGroups { expected: 32, typed: 28 });
}

#[test]
fn mixed_up_and_double_parts_are_refused() {
    let (ours, theirs) = (parts(&[1; 64], 2, 3), parts(&[1; 64], 2, 3));
    let mut gathering = gathered(&ours[..1]);
    let mixed = gathering.add(copied(&theirs[1])).unwrap_err();
    let (expected, found) = (ours[0].ceremony(), theirs[0].ceremony());
    assert_eq!(mixed, SharingError::OtherCeremony { expected, found });
    let double = gathering.add(copied(&ours[0])).unwrap_err();
    assert_eq!(double, SharingError::Double { number: 1 });
    let other = gathering.add(copied(&parts(&[1; 32], 2, 3)[1])).unwrap_err();
    let (expected, found) = (SecretKind::RootKeys, SecretKind::BlockProtection);
    assert_eq!(other, SharingError::OtherKind { expected, found });
    assert_eq!(gathering.add(copied(&ours[2])).unwrap(), 3);
    assert!(gathering.secret().is_ok());
}

#[test]
fn a_changed_part_is_noticed() {
    let mut parts = parts(&[9; 64], 2, 3);
    parts[2].share.expose_mut()[10] ^= 1;
    assert_eq!(gathered(&parts[1..]).secret().unwrap_err(), SharingError::Changed);
    assert_eq!(gathered(&parts).secret().unwrap_err(), SharingError::Disagrees { number: 3 });
    assert!(gathered(&parts[..2]).secret().is_ok());
}

#[test]
fn groups_of_two_papers_are_noticed() {
    let parts = parts(&[3; 64], 2, 2);
    let (one, other) = (parts[0].lines(), parts[1].lines());
    let mixed: Vec<&str> = one[..4].iter().chain(&other[4..]).map(|line| line.as_str()).collect();
    assert_eq!(PartReader::whole(&mixed.join(" ")).unwrap_err(), SharingError::Whole);
}

#[test]
fn a_part_shows_nothing_in_debug_output() {
    let parts = parts(&[3; 32], 2, 2);
    let shown = format!("{:?}", parts[0]);
    assert!(shown.starts_with("Part 1 of 2 of key block protection key, ceremony "));
    assert!(shown.ends_with(", redacted"));
}
