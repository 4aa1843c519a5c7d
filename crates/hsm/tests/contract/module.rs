use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::{HsmError, PaymentHsm, Realm};

use crate::{issuer, now};

pub fn describes_itself(hsm: &impl PaymentHsm) {
    let description = hsm.describe();
    assert_eq!(description.realm, Realm::Demo);
    assert!(!description.backend.is_empty());
    if description.backend == "software" {
        assert!(!description.says_it_is_hardware);
        assert!(description.notice.contains("not for production"));
    }
}

pub fn random_bytes_differ(hsm: &impl PaymentHsm) {
    let mut draws = [[0; 32]; 8];
    for draw in &mut draws {
        hsm.random(draw).unwrap();
    }
    draws.sort_unstable();
    assert!(draws.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(!draws.contains(&[0; 32]));
}

pub fn production_realm_shows_no_key(hsm: &impl PaymentHsm) {
    assert_eq!(hsm.describe().realm, Realm::Production);
    let index = hsm.create_issuer(issuer(1), now()).unwrap().derivation_key_index;
    assert!(matches!(hsm.demo_keys(issuer(1), index), Err(HsmError::NotADemoRealm)));
    let imported = hsm.import_demo_issuer(issuer(2), IssuerMasterKey::new([7; 16]), now());
    assert!(matches!(imported, Err(HsmError::NotADemoRealm)));
    assert!(matches!(hsm.issuer_keys(issuer(2)), Err(HsmError::UnknownIssuer(_))));
}
