//! A worker whose process is played, word by word.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tapfer_payment_types::CatalogueMark;
use zeroize::Zeroizing;

use super::{Next, after, greet, hand_out};
use crate::pool::config::{MemberConfig, PoolConfig};
use crate::pool::launch::Commands;
use crate::pool::shared::{Shared, framed};
use crate::pool::wire::{
    self, Answer, GREETING_ID, Greeting, Incoming, Module, PROTOCOL_VERSION, Reply, Request,
};
use crate::pool::worker::{Phase, Purpose, Question};
use crate::{CatalogueError, HsmError};

const MARK: CatalogueMark = CatalogueMark { version: 7, mac: [1; 32], key: [2; 32] };

/// One member with one worker, whose process is played here.
fn pool() -> Shared {
    let member = "[[member]]\nname = \"north\"\nmodule = \"/none\"\ntoken = \"none\"\nworkers = 1\n\
                  pin = { env = \"NONE\" }\n";
    let config = PoolConfig::parse(&format!("[pool]\n{member}")).unwrap();
    let launch = Commands(|_: &MemberConfig| Command::new("true"));
    Shared::new(config.pool, config.members, None, None, Box::new(launch))
}

/// The worker's end of the socket.
struct Played {
    socket: UnixStream,
    incoming: Incoming,
}

impl Played {
    /// Waits for a question. Its id.
    fn is_asked(&mut self) -> u64 {
        loop {
            if let Some(frame) = self.incoming.next_frame().unwrap() {
                return frame.id;
            }
            assert_ne!(self.incoming.read_from(&self.socket).unwrap(), 0, "nothing is asked");
        }
    }

    fn says(&mut self, id: u64, message: &impl Serialize) {
        let mut frame = Zeroizing::default();
        wire::append(&mut frame, id, message).unwrap();
        self.socket.write_all(&frame).unwrap();
    }
}

fn played() -> (UnixStream, Played) {
    let (ours, socket) = UnixStream::pair().unwrap();
    (ours, Played { socket, incoming: Incoming::default() })
}

#[test]
fn a_catalogue_that_changes_while_a_worker_follows_it_is_followed_before_it_serves() {
    let (shared, (ours, mut played)) = (pool(), played());
    let (worker, member) = (&shared.workers[0], &shared.members[0]);
    let module = Module {
        backend: "software".to_owned(),
        says_it_is_hardware: false,
        is_demo: true,
        realm_id: 9,
        notice: String::new(),
        is_memory_locked: false,
        report: None,
    };
    thread::scope(|scope| {
        let mut incoming = Incoming::default();
        let shared = &shared;
        let greeted =
            scope.spawn(move || greet(shared, worker, member, &ours, &mut incoming).is_ok());
        played.says(GREETING_ID, &Greeting { version: PROTOCOL_VERSION, opened: Ok(module) });
        assert_eq!(played.is_asked(), GREETING_ID);
        // Nobody tells this worker: it does not serve yet.
        shared.broadcast_change(None);
        played.says(GREETING_ID, &Answer::Done(Reply::Catalogue(MARK)));
        assert_eq!(played.is_asked(), GREETING_ID);
        assert!(matches!(worker.state().phase, Phase::Starting { .. }));
        played.says(GREETING_ID, &Answer::Done(Reply::Catalogue(MARK)));
        assert!(greeted.join().unwrap());
    });
    assert_eq!(worker.state().phase, Phase::Serving);
}

/// Otherwise the member would be asked nothing until somebody happens to probe it again.
#[test]
fn a_probe_behind_a_catalogue_that_cannot_be_followed_has_failed() {
    let (shared, (ours, mut played)) = (pool(), played());
    let (worker, member) = (&shared.workers[0], &shared.members[0]);
    let now = Duration::from_secs(60);
    let mut state = worker.state();
    state.phase = Phase::Serving;
    state.socket = Some(ours.try_clone().unwrap());
    drop(state);
    member.breaker().trip(now, "CKR_DEVICE_ERROR".to_owned());
    assert!(member.breaker().take_probe(now + Duration::from_secs(1)));
    shared.refresh(worker);
    let probe = Question::new(Purpose::Probe, now, Duration::ZERO);
    worker.ask(&framed(&Request::Health).unwrap(), probe).unwrap();
    let (refresh, probe) = (played.is_asked(), played.is_asked());
    let failed = Answer::failed(HsmError::Internal { operation: "following the catalogue" });
    played.says(refresh, &failed);
    played.says(probe, &Answer::Done(Reply::Nothing));
    let mut incoming = Incoming::default();
    incoming.read_from(&ours).unwrap();
    assert!(hand_out(&shared, 0, worker, member, &mut incoming).is_err());
    assert_eq!(member.breaker().name(), "open");
}

#[test]
fn a_module_with_other_root_keys_is_not_logged_in_to_every_second() {
    let path = || "keys.json".into();
    for error in [CatalogueError::OtherRoots(path()), CatalogueError::OtherReleasingRoot(path())] {
        let told = wire::portable(HsmError::Catalogue(error));
        assert_eq!(after(&told), Next::Later, "{told}");
    }
    let older = CatalogueError::RolledBack { path: path(), version: 1, known: 2 };
    assert_eq!(after(&wire::portable(HsmError::Catalogue(older))), Next::Again);
}
