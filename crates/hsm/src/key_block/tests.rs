use data_encoding::HEXUPPER;
use getrandom::SysRng;
use proptest::collection::vec;
use proptest::prelude::*;
use rand_core::{CryptoRng, UnwrapErr};
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use super::{
    Algorithm, Exportability, Header, KeyBlockError, KeyUsage, KeyVersion, ModeOfUse,
    OptionalBlock, ProtectionKey, Version, inspect, open, seal, seal_with,
};

fn test_generator() -> impl CryptoRng {
    UnwrapErr(SysRng)
}

fn hex(text: &str) -> Secret<Vec<u8>> {
    Secret::new(HEXUPPER.decode(text.as_bytes()).unwrap())
}

fn protection(version: Version, text: &str) -> ProtectionKey {
    ProtectionKey::new(version, hex(text)).unwrap()
}

fn pin_encryption(version: Version, algorithm: Algorithm) -> Header {
    Header {
        version,
        usage: KeyUsage::PIN_ENCRYPTION,
        algorithm,
        mode: ModeOfUse::Encrypt,
        key_version: KeyVersion::NONE,
        exportability: Exportability::UnderTrustedKey,
        optional_blocks: Vec::new(),
    }
}

/// ASC X9 TR-31:2018, A.7.4: version D, with the padding it was made with.
#[test]
fn published_example_of_version_d() {
    let block = "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A2\
                 7E8E31DA05F7425509593D03A457DC34";
    let protection =
        protection(Version::D, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6");
    let key = hex("3F419E1CB7079442AA37474C2EFBF8B8");
    let opened = open(&protection, block).unwrap();
    assert_eq!(opened.header, pin_encryption(Version::D, Algorithm::Aes));
    assert_eq!(opened.key.expose(), key.expose());

    let padding = HEXUPPER.decode(b"1C2965473CE206BB855B01533782").unwrap();
    let room = Zeroizing::new([vec![0; 18], padding].concat());
    assert_eq!(seal_with(&protection, &opened.header, &key, room).unwrap(), block);
}

/// ASC X9 TR-31:2018, A.7.2.2 and A.7.3.2: version B, without and with an optional block.
#[test]
fn published_examples_of_version_b() {
    let block = "B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E";
    let opened = open(&protection(Version::B, "DD7515F2BFC17F85CE48F3CA25CB21F6"), block).unwrap();
    assert_eq!(opened.header, pin_encryption(Version::B, Algorithm::TripleDes));
    assert_eq!(*opened.key.expose(), *hex("3F419E1CB7079442AA37474C2EFBF8B8").expose());

    let block = "B0104B0TX12S0100KS1800604B120F9292800000BB68BE8680A400D9191AD4ECE45B6E6C0D21C4738A52190E\
                 248719E24B433627";
    let opened = open(&protection(Version::B, "1D22BF32387C600AD97F9B97A51311AC"), block).unwrap();
    assert_eq!(*opened.key.expose(), *hex("E8BC63E5479455E26577F715D587FE68").expose());
    let header = opened.header;
    assert_eq!((header.usage.as_str(), header.key_version.as_str()), ("B0", "12"));
    assert_eq!((header.mode, header.exportability), (ModeOfUse::Derive, Exportability::Sensitive));
    let serial = OptionalBlock::new("KS", "00604B120F9292800000").unwrap();
    assert_eq!(header.optional_blocks, [serial]);
}

#[test]
fn only_aes_blocks_are_written() {
    let key = Secret::new(vec![7; 16]);
    let old = protection(Version::B, "DD7515F2BFC17F85CE48F3CA25CB21F6");
    let header = pin_encryption(Version::B, Algorithm::TripleDes);
    let refused = seal(&old, &header, &key, &mut test_generator());
    assert_eq!(refused.unwrap_err(), KeyBlockError::ReadOnly);
}

#[test]
fn a_key_is_not_protected_by_a_weaker_one() {
    let weak = protection(Version::D, "DD7515F2BFC17F85CE48F3CA25CB21F6");
    let header = pin_encryption(Version::D, Algorithm::Aes);
    let refused = seal(&weak, &header, &Secret::new(vec![7; 32]), &mut test_generator());
    assert_eq!(refused.unwrap_err(), KeyBlockError::TooStrong);
}

#[test]
fn versions_without_binding_are_refused() {
    let blocks = [
        "A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701",
        "C0096B0TX12S0100KS1800604B120F9292800000BFB9B689CB567E66FC3FEE5AD5F52161FC6545B9D60989015D02155C",
    ];
    for block in blocks {
        assert!(matches!(inspect(block), Err(KeyBlockError::Version('A' | 'C'))));
    }
}

#[test]
fn what_is_wrong_with_a_header_is_named() {
    let body = "0".repeat(64);
    let cases = [
        ("D", KeyBlockError::CutShort),
        ("D9999P0AE00E0000", KeyBlockError::Length { said: "9999".to_owned(), is: 16 }),
        ("D0080P0QE00E0000", KeyBlockError::Field { field: "algorithm", value: "Q".to_owned() }),
        (
            "D0080P0AE00X0000",
            KeyBlockError::Field { field: "exportability", value: "X".to_owned() },
        ),
        (
            "D0080P0AE00E0001",
            KeyBlockError::Field { field: "reserved field", value: "01".to_owned() },
        ),
        (
            "D0080P0AE00E0100",
            KeyBlockError::OptionalBlock {
                number: 1,
                why: "has a length that is not written in four digits",
            },
        ),
    ];
    for (header, error) in cases {
        let block =
            if header.contains("0080") { format!("{header}{body}") } else { header.to_owned() };
        assert_eq!(inspect(&block).unwrap_err(), error, "{header}");
    }
    assert_eq!(inspect("D0080P0AE00E0000\n").unwrap_err(), KeyBlockError::NotText);
}

prop_compose! {
    fn any_header()(
        usage in "[A-Z][0-9]", key_version in "[0-9A-Z]{2}", aes in any::<bool>(),
        names in proptest::collection::hash_set("[A-OQ-Z][A-Z0-9]", 0..4),
        texts in vec("[ -~]{0,300}", 4),
    ) -> Header {
        Header {
            version: Version::D,
            usage: KeyUsage::new(&usage).unwrap(),
            algorithm: if aes { Algorithm::Aes } else { Algorithm::Hmac },
            mode: ModeOfUse::Derive,
            key_version: KeyVersion::new(&key_version).unwrap(),
            exportability: Exportability::No,
            optional_blocks: names.iter().zip(&texts)
                .map(|(name, text)| OptionalBlock::new(name, text).unwrap()).collect(),
        }
    }
}

proptest! {
    #[test]
    fn opens_what_was_sealed(
        header in any_header(),
        key in vec(any::<u8>(), 1..32),
        length in prop_oneof![Just(16_usize), Just(24), Just(32)],
        bytes in any::<[u8; 32]>(),
    ) {
        prop_assume!(header.algorithm != Algorithm::Aes || key.len() <= length);
        let protection = ProtectionKey::new(Version::D, Secret::new(bytes[..length].to_vec())).unwrap();
        let block = seal(&protection, &header, &Secret::new(key.clone()), &mut test_generator()).unwrap();
        let opened = open(&protection, &block).unwrap();
        prop_assert_eq!(opened.key.expose(), &key);
        prop_assert_eq!(&opened.header, &header);
        prop_assert_eq!(inspect(&block).unwrap(), header);
    }

    #[test]
    fn no_character_can_be_changed(
        header in any_header(), key in any::<[u8; 16]>(), at in any::<prop::sample::Index>(),
        letter in "[ -~]",
    ) {
        let protection = ProtectionKey::new(Version::D, Secret::new(vec![9; 32])).unwrap();
        let block = seal(&protection, &header, &Secret::new(key.to_vec()), &mut test_generator()).unwrap();
        let at = at.index(block.len());
        let mut changed = block.clone();
        changed.replace_range(at..=at, &letter);
        prop_assume!(changed != block);
        prop_assert!(open(&protection, &changed).is_err());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[BD][0-9]{4}[A-Z0-9]{0,11}.{0,80}", body in "[0-9A-F]{0,200}") {
        let text = text + &body;
        let protection = ProtectionKey::new(Version::D, Secret::new(vec![9; 32])).unwrap();
        prop_assert!(open(&protection, &text).is_err());
    }
}
