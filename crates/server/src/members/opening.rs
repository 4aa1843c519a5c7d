//! A member's token, opened by this process itself: by a worker, and by the people who keep the keys.

use tapfer_hsm::pkcs11::{
    CacheLimits, InstalledRoots, LoginRecord, Pkcs11Configuration, Pkcs11Vault, RootsOnToken,
};
use tapfer_hsm::pool::{self, MemberConfig};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{CatalogueError, HsmError, SoftwareHsm, VaultedHsm};
use tapfer_payment_types::{RealmId, Secret};

use super::trust::{check_module, configuration};
use super::{MemberError, pin};
use crate::clock::Stopwatch;
use crate::realm::RealmPaths;

pub(super) fn module_of(
    member: MemberConfig,
    pin: Secret<String>,
    record: LoginRecord,
    realm: RealmId,
) -> Pkcs11Configuration {
    let stopwatch = Stopwatch::start();
    Pkcs11Configuration {
        module: member.module,
        token: member.token,
        pin,
        login_record: Some(record),
        realm,
        limits: CacheLimits::default(),
        stopwatch: Box::new(move || stopwatch.elapsed()),
    }
}

/// Roots of a drill are for the realm of a drill, and nobody else's.
pub(super) fn open_token(
    paths: &RealmPaths,
    configuration: Pkcs11Configuration,
) -> Result<Pkcs11Vault, HsmError> {
    match paths.drill().exists() {
        true => Pkcs11Vault::open_in_drill(configuration),
        false => Pkcs11Vault::open(configuration),
    }
}

/// Opens a member in this process, beside a platform that may run: for the people who keep the keys. The
/// member's environment has to be this process's.
///
/// # Errors
/// [`MemberError`].
pub fn open_beside(paths: &RealmPaths, name: &str) -> Result<VaultedHsm<Pkcs11Vault>, MemberError> {
    let realm = pool::realm_of_catalogue(&paths.catalogue())?;
    let vault = open_token(paths, module_here(paths, name, realm)?)?;
    Ok(VaultedHsm::over_catalogue(vault, &paths.catalogue())?)
}

/// Whether a member's library sees its token. Nobody logs in. The member's environment has to be this process's.
///
/// # Errors
/// [`MemberError`]: what the library sees in its place.
pub fn look_for_token(paths: &RealmPaths, name: &str) -> Result<(), MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    check_module(&member)?;
    Ok(Pkcs11Vault::look_for_token(&member.module, &member.token)?)
}

/// Logs in to a member's token, and says which root keys of a realm are there. The member's environment has to be
/// this process's.
///
/// # Errors
/// [`MemberError`].
pub fn look_for_roots(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
) -> Result<RootsOnToken, MemberError> {
    Ok(Pkcs11Vault::look_for_roots(&module_here(paths, name, realm)?)?)
}

/// Puts root keys on the token of a member, if they are those of the realm's catalogue, and says which were there
/// before, and what they lack. The member's environment has to be this process's.
///
/// # Errors
/// [`MemberError`].
pub fn install_roots(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
    roots: &RootKeys,
) -> Result<InstalledRoots, MemberError> {
    let catalogue = paths.catalogue();
    let keys = SoftwareHsm::over_catalogue(SoftwareVault::new(roots.for_another()), &catalogue)?;
    if keys.realm_of_catalogue().1 != realm {
        return Err(HsmError::from(CatalogueError::OtherRealm(catalogue)).into());
    }
    Ok(Pkcs11Vault::install_roots(&module_here(paths, name, realm)?, roots)?)
}

/// A member for this process to open.
fn module_here(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
) -> Result<Pkcs11Configuration, MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    check_module(&member)?;
    let pin = pin::read(paths.home(), &member)?;
    let record = LoginRecord::at(paths.login_record(name));
    Ok(module_of(member, pin, record, realm))
}

/// As [`install_roots`], for a drill: [`end_drill`] takes them away again, and so does the next drill. Then
/// opens every key of the catalogue in the module, and says how many there are.
///
/// # Errors
/// [`MemberError`].
pub fn begin_drill(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
    roots: &RootKeys,
) -> Result<usize, MemberError> {
    Pkcs11Vault::begin_drill(&module_here(paths, name, realm)?, roots)?;
    Ok(open_beside(paths, name)?.try_every_key()?)
}

/// Takes away what a drill put on the token of a member; whether there was anything.
///
/// # Errors
/// [`MemberError`].
pub fn end_drill(paths: &RealmPaths, name: &str, realm: RealmId) -> Result<bool, MemberError> {
    Ok(Pkcs11Vault::end_drill(&module_here(paths, name, realm)?)?)
}
