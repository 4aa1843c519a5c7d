//! The platform inside this process: opens or makes a realm, and serves it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use tapfer_hsm::catalogue::UnverifiedCatalogue;
use tapfer_server::realm::demand_free_database;
use tapfer_server::{
    ApiKeysTaken, CertificateSource, Rate, Realm, RealmKind, RunningServer, Server, ServerConfig,
};
use tokio::runtime::Runtime;

use crate::home::Home;
use crate::{clock, unlock};

/// Opens the realm in the home directory, or makes one of the given kind.
///
/// # Errors
/// Nothing opens the key store; another process has the realm open; files are damaged.
pub(crate) fn open_realm(
    home: &Home,
    kind: Option<RealmKind>,
    passphrase_file: Option<&Path>,
) -> anyhow::Result<Realm> {
    ensure!(
        !home.realm().drill().exists(),
        "{} is the directory of a recovery drill, and the root keys that it finds on the tokens are gone with the next \
         one; restore the backup elsewhere, and run `tapfer keys ceremony install` there",
        home.path().display()
    );
    let in_hsms = home.realm().hsm_configuration().exists();
    if home.realm().is_realm() {
        return Ok(match in_hsms {
            true => Realm::open_in_hsms(home.path())?,
            false => Realm::open(home.path(), &unlock::find(home, passphrase_file)?)?,
        });
    }
    if !home.realm().keystore().exists() && !home.realm().catalogue().exists() {
        // A database that is not to be had leaves no keys behind that the next start would stumble over.
        demand_free_database(home.path())?;
    }
    let kind = kind_of_new_realm(home, kind)?;
    if in_hsms {
        return Ok(Realm::create_in_hsms(home.path(), kind, clock::now())?);
    }
    let is_begun = home.realm().keystore().exists();
    let unlock = unlock::find_or_make(home, passphrase_file, kind)?;
    let created =
        Realm::create(home.path(), kind, &unlock, clock::now()).map_err(anyhow::Error::from);
    match is_begun {
        true => created.with_context(|| begin_anew(home)),
        false => created,
    }
}

/// Of keys that a start has left which did not come to its end.
fn begin_anew(home: &Home) -> String {
    format!(
        "no platform has ever run in {}: where no ceremony has made these keys, remove keystore, keys.json and demo-unlock.key there, empty the \
         database if `tapfer db migrate` was run for them (docs/postgresql.md), and begin anew",
        home.path().display()
    )
}

/// What a realm becomes on its first start: what its keys were made for, if a ceremony has made them.
fn kind_of_new_realm(home: &Home, asked_for: Option<RealmKind>) -> anyhow::Result<RealmKind> {
    let Ok(bytes) = fs::read(home.realm().catalogue()) else {
        return Ok(asked_for.unwrap_or(RealmKind::Demo));
    };
    let file = home.realm().catalogue();
    let catalogue =
        UnverifiedCatalogue::parse(&bytes).with_context(|| file.display().to_string())?;
    let (made_for, _) = catalogue.realm();
    if asked_for.is_some_and(|kind| kind != made_for) {
        let kind = match made_for {
            RealmKind::Demo => "demo",
            RealmKind::Production => "production",
        };
        bail!(
            "the keys in {} were made for a {kind} realm; leave --realm away. {}",
            file.display(),
            begin_anew(home)
        );
    }
    Ok(made_for)
}

/// This program's own to a platform in it: as many as open files allow.
const MOST_CONNECTIONS: usize = 8_192;
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The threads that the network is served from.
///
/// # Errors
/// The operating system gives no threads.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the operating system gives no threads")
}

/// A platform on a loopback port of the system's choice, for the demo and for benchmarks. Stopped when
/// it is dropped.
pub(crate) struct EmbeddedPlatform {
    runtime: Runtime,
    server: Option<RunningServer>,
}

impl EmbeddedPlatform {
    /// Serves a realm that is open.
    ///
    /// # Errors
    /// What keeps the platform from starting.
    pub(crate) fn serve(realm: Realm) -> anyhow::Result<(Self, String)> {
        Self::start(realm, ServerConfig::new(ANY_PORT))
    }

    /// As [`EmbeddedPlatform::serve`], for a copy that is thrown away: none of the API keys in it counts, whoever wrote
    /// them there, and those that are made in it count nowhere else.
    ///
    /// # Errors
    /// What keeps the platform from starting.
    pub(crate) fn serve_copy(realm: Realm) -> anyhow::Result<(Self, String)> {
        let mut config = ServerConfig::new(ANY_PORT);
        config.api_keys = ApiKeysTaken::MadeHere;
        Self::start(realm, config)
    }

    fn start(realm: Realm, config: ServerConfig) -> anyhow::Result<(Self, String)> {
        let mut config = config;
        // Whoever asks it is this program, as fast as it can.
        let as_fast_as_it_can = Rate { a_second: u32::MAX, burst: u32::MAX };
        let limits = &mut config.limits;
        (limits.connections, limits.connections_per_address) = (MOST_CONNECTIONS, MOST_CONNECTIONS);
        let requests = &mut limits.requests;
        (requests.machine, requests.server) = (as_fast_as_it_can, as_fast_as_it_can);
        requests.a_day = u64::MAX;
        let runtime = runtime()?;
        let server = runtime.block_on(Server::start(realm, config))?;
        let address = address_of(&server);
        Ok((Self { runtime, server: Some(server) }, address))
    }
}

impl Drop for EmbeddedPlatform {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // What is durable is durable already; a failure to stop cleanly changes nothing.
            let _stopped = self.runtime.block_on(server.stop());
        }
    }
}

/// Address under which clients on this machine reach a server.
pub(crate) fn address_of(server: &RunningServer) -> String {
    let address = server.address();
    if let CertificateSource::Files { names, .. } = server.certificate()
        && let Some(name) = names.first()
    {
        // A certificate that was brought is seldom for an address.
        return address_with(name, address.port());
    }
    if address.ip().is_unspecified() {
        return format!("https://127.0.0.1:{}", address.port());
    }
    format!("https://{address}")
}

/// Address of a server that is known by a name.
pub(crate) fn address_with(name: &str, port: u16) -> String {
    match name.parse::<Ipv6Addr>() {
        Ok(name) => format!("https://[{name}]:{port}"),
        Err(_) => format!("https://{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use serde_json::json;
    use tapfer_server::RealmKind;

    use super::{EmbeddedPlatform, open_realm};
    use crate::client::{Access, Client, install_tls_provider, text_of};
    use crate::home::Home;
    use crate::stage::create_issuer;
    use crate::trouble::Problem;

    fn operator(home: &Home, address: String) -> Client {
        Access { server: Some(address), ..Access::default() }.client(home).unwrap()
    }

    fn gets_in(client: &Client, key: &str) -> bool {
        match client.with_key(key).get("/v1/cards") {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.downcast::<Problem>().unwrap().status, 401);
                false
            }
        }
    }

    /// Attack: somebody writes an API key into a backup, and has the drill sign it with the realm's own key: there, and
    /// at the real platform from then on.
    #[test]
    fn attack_api_key_in_a_backup_signed_by_a_drill() {
        install_tls_provider();
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(Some(directory.path().join("home")));
        let open = || open_realm(&home, Some(RealmKind::Demo), None).unwrap();
        let database = || Connection::open(home.realm().embedded_database().unwrap()).unwrap();
        let signed = || -> Vec<String> {
            let database = database();
            let sql = "SELECT id FROM api_keys WHERE signature IS NOT NULL AND role = 'issuer'";
            let mut rows = database.prepare(sql).unwrap();
            rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let make_key = |client: &Client, owner: &str| {
            let made = client.post("/v1/api-keys", &json!({ "owner": owner })).unwrap();
            (text_of(&made, "id").unwrap(), text_of(&made, "api_key").unwrap())
        };

        let (platform, address) = EmbeddedPlatform::serve(open()).unwrap();
        let client = operator(&home, address);
        let issuer = create_issuer(
            &client,
            &json!({
                "keys_per_replenishment": 1, "maximum_payments": 8,
                "maximum_total_minor": 25_000, "lifetime_seconds": 86_400,
            }),
        )
        .unwrap();
        let (_, genuine) = make_key(&client, &issuer);
        let (id, planted) = make_key(&client, &issuer);
        drop(platform);
        // What he writes has no signature.
        database().execute("UPDATE api_keys SET signature = NULL WHERE id = ?1", [id]).unwrap();
        let before = signed();

        let (drill, address) = EmbeddedPlatform::serve_copy(open()).unwrap();
        let client = operator(&home, address);
        assert!(!gets_in(&client, &planted), "nobody signed it");
        assert!(!gets_in(&client, &genuine), "who has a real one has no business at a drill");
        let (_, of_the_drill) = make_key(&client, &issuer);
        assert!(gets_in(&client, &of_the_drill), "its own get in");
        drop(drill);
        assert_eq!(signed(), before, "none was signed in the drill");

        let (_platform, address) = EmbeddedPlatform::serve(open()).unwrap();
        let client = operator(&home, address);
        assert!(gets_in(&client, &genuine));
        assert!(!gets_in(&client, &planted) && !gets_in(&client, &of_the_drill));
    }
}
