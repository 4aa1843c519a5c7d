//! A module that fails as its file says, in a process of its own.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, process, thread};

use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate, Rid};
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};
use tapfer_hsm::pool;
use tapfer_hsm::pool::wire::{
    self, Answer, GREETING_ID, Greeting, Incoming, Module, PROTOCOL_VERSION, Reply,
};
use tapfer_hsm::*;
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::store_share::STORE_SHARE_LENGTH;
use tapfer_payment_types::{CatalogueMark, DeviceId, IssuerId, Pan, Secret, Timestamp};

use zeroize::Zeroizing;

use crate::house;

/// Says to this program, started anew, that it is a worker: the house, the member, and whether it may make keys.
pub const WORKER_OF: &str = "TAPFER_POOL_TEST_WORKER_OF";

/// What a member does wrong, as one word in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every verb fails.
    DeviceError,
    /// Every verb hangs for ever.
    Hang,
    /// Every verb takes as long as this stands there.
    Busy,
    /// The module does not open, and every verb fails.
    TokenGone,
    /// Every answer is to another question than the one that was asked.
    WrongId,
    /// Every verb fails, for as long as the process lives that has met this once.
    LostForGood,
    /// It ends behind the first key that it makes, before it has answered.
    DieBehindMaking,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::None,
        Self::DeviceError,
        Self::Hang,
        Self::Busy,
        Self::TokenGone,
        Self::WrongId,
        Self::LostForGood,
        Self::DieBehindMaking,
    ];

    pub fn word(self) -> String {
        format!("{self:?}")
    }

    fn read(file: &Path) -> Self {
        let word = fs::read_to_string(file).unwrap_or_default();
        Self::ALL.into_iter().find(|fault| fault.word() == word).unwrap_or(Self::None)
    }
}

pub struct Faulty {
    hsm: SoftwareHsm,
    file: PathBuf,
}

impl Faulty {
    fn well(&self) -> Result<&SoftwareHsm, HsmError> {
        static LOST: AtomicBool = AtomicBool::new(false);
        while Fault::read(&self.file) == Fault::Busy {
            thread::park_timeout(Duration::from_millis(1));
        }
        match Fault::read(&self.file) {
            Fault::LostForGood => {
                LOST.store(true, Ordering::Relaxed);
                Err(failed("CKR_DEVICE_REMOVED"))
            }
            _ if LOST.load(Ordering::Relaxed) => Err(failed("CKR_DEVICE_REMOVED")),
            Fault::None | Fault::Busy | Fault::WrongId | Fault::DieBehindMaking => Ok(&self.hsm),
            Fault::DeviceError => Err(failed("CKR_DEVICE_ERROR")),
            Fault::TokenGone => Err(failed("CKR_TOKEN_NOT_PRESENT")),
            Fault::Hang => loop {
                thread::park();
            },
        }
    }

    fn making(&self) -> Result<&SoftwareHsm, HsmError> {
        self.well()
    }

    fn made<T>(&self, made: T) -> T {
        if Fault::read(&self.file) == Fault::DieBehindMaking {
            fs::write(&self.file, Fault::None.word()).unwrap();
            process::abort();
        }
        made
    }
}

fn failed(cause: &str) -> HsmError {
    HsmError::ModuleFailed { operation: "C_SignInit".to_owned(), cause: cause.to_owned() }
}

/// The worker: a test that does nothing where nobody asks for one.
#[test]
fn pool_worker() {
    let Some(what) = env::var_os(WORKER_OF) else { return };
    let what = what.into_string().unwrap();
    let [house, member] = what.split(';').collect::<Vec<_>>().try_into().unwrap();
    let file = Path::new(house).join(member);
    let open = || {
        if Fault::read(&file) == Fault::TokenGone {
            return Err(failed("CKR_TOKEN_NOT_PRESENT"));
        }
        let [keystore, catalogue] = house::files(Path::new(house));
        let hsm = SoftwareHsm::open(&keystore, &catalogue, &house::unlock())?;
        Ok(Faulty { hsm, file: file.clone() })
    };
    let socket = pool::take_socket().unwrap();
    match Fault::read(&file) {
        Fault::WrongId => answer_something_else(&socket, &open().unwrap()),
        _ => drop(pool::serve(socket, false, open)),
    }
}

/// A worker that greets as it should, and then does not.
fn answer_something_else(mut socket: &UnixStream, hsm: &Faulty) {
    let mut frame = Zeroizing::new(Vec::new());
    let opened = Ok(Module::of(&hsm.describe(), None, false));
    let greeting = Greeting { version: PROTOCOL_VERSION, opened };
    wire::append(&mut frame, GREETING_ID, &greeting).unwrap();
    socket.write_all(&frame).unwrap();
    let mut incoming = Incoming::default();
    while incoming.read_from(socket).is_ok_and(|read| read > 0) {
        while let Some(asked) = incoming.next_frame().unwrap() {
            frame.clear();
            // It begins once it serves.
            if asked.id == GREETING_ID {
                let mark = hsm.follow_catalogue(None).unwrap();
                wire::append(&mut frame, asked.id, &Answer::Done(Reply::Catalogue(mark))).unwrap();
            } else {
                wire::append(&mut frame, asked.id + 1, &Answer::Done(Reply::Nothing)).unwrap();
            }
            socket.write_all(&frame).unwrap();
        }
    }
}

impl PaymentHsm for Faulty {
    fn describe(&self) -> HsmDescription {
        self.hsm.describe()
    }
    fn health(&self) -> Result<(), HsmError> {
        self.well()?.health()
    }
    /// Looks at a file, and asks no module while it is the same one.
    fn follow_catalogue(&self, known: Option<&CatalogueMark>) -> Result<CatalogueMark, HsmError> {
        self.hsm.follow_catalogue(known)
    }
    fn random(&self, out: &mut [u8]) -> Result<(), HsmError> {
        self.well()?.random(out)
    }
    fn create_certification_authority(
        &self,
        rid: Rid,
        index: u8,
        now: Timestamp,
    ) -> Result<CaPublicKey, HsmError> {
        self.making()?.create_certification_authority(rid, index, now).map(|made| self.made(made))
    }
    fn ca_public_key(&self, rid: Rid, index: u8) -> Result<CaPublicKey, HsmError> {
        self.well()?.ca_public_key(rid, index)
    }
    fn create_issuer(&self, issuer: IssuerId, now: Timestamp) -> Result<IssuerKeys, HsmError> {
        self.making()?.create_issuer(issuer, now).map(|made| self.made(made))
    }
    fn issuer_keys(&self, issuer: IssuerId) -> Result<IssuerKeys, HsmError> {
        self.well()?.issuer_keys(issuer)
    }
    fn issue_issuer_certificate(
        &self,
        request: &IssuerCertificateRequest,
    ) -> Result<IssuerCertificate, HsmError> {
        self.well()?.issue_issuer_certificate(request)
    }
    fn sign_icc_certificate(
        &self,
        request: &IccCertificateRequest,
    ) -> Result<IccCertificate, HsmError> {
        self.well()?.sign_icc_certificate(request)
    }
    fn create_merchant_authority(&self, now: Timestamp) -> Result<MerchantCaKey, HsmError> {
        self.making()?.create_merchant_authority(now).map(|made| self.made(made))
    }
    fn merchant_ca_key(&self) -> Result<MerchantCaKey, HsmError> {
        self.well()?.merchant_ca_key()
    }
    fn sign_merchant_certificate(
        &self,
        request: &MerchantCertificateRequest,
    ) -> Result<MerchantCertificate, HsmError> {
        self.well()?.sign_merchant_certificate(request)
    }
    fn create_access_keys(&self, now: Timestamp) -> Result<(), HsmError> {
        self.making()?.create_access_keys(now).map(|made| self.made(made))
    }
    fn client_authorities(&self) -> Result<Vec<Vec<u8>>, HsmError> {
        self.well()?.client_authorities()
    }
    fn sign_client_certificate(
        &self,
        request: &ClientCertificateRequest,
    ) -> Result<Vec<u8>, HsmError> {
        self.well()?.sign_client_certificate(request)
    }
    fn repetition_secret(&self) -> Result<Secret<[u8; 32]>, HsmError> {
        self.well()?.repetition_secret()
    }
    fn create_document_keys(&self, now: Timestamp) -> Result<(), HsmError> {
        self.making()?.create_document_keys(now).map(|made| self.made(made))
    }
    fn document_keys(&self, purpose: DocumentPurpose) -> Result<Vec<DocumentKeyRecord>, HsmError> {
        self.well()?.document_keys(purpose)
    }
    fn sign_document(
        &self,
        purpose: DocumentPurpose,
        document: &[u8],
    ) -> Result<DocumentSignature, HsmError> {
        self.well()?.sign_document(purpose, document)
    }
    fn verify_cryptogram(
        &self,
        request: &CryptogramRequest<'_>,
    ) -> Result<CryptogramVerdict, HsmError> {
        self.well()?.verify_cryptogram(request)
    }
    fn seal_provisioning(
        &self,
        request: ProvisioningRequest<'_>,
    ) -> Result<SealedPayload, HsmError> {
        self.well()?.seal_provisioning(request)
    }
    fn person_key_recipient(&self, issuer: IssuerId) -> Result<PersonKeyRecipient, HsmError> {
        self.well()?.person_key_recipient(issuer)
    }
    fn accept_person_key(
        &self,
        import: &PersonKeyImport<'_>,
    ) -> Result<PersonKeyVerdict, HsmError> {
        self.well()?.accept_person_key(import)
    }
    fn card_pin_value(
        &self,
        subject: CardPinSubject,
        sealed: &SealedPayload,
    ) -> Result<CardPinValue, HsmError> {
        self.well()?.card_pin_value(subject, sealed)
    }
    fn verify_card_pin(
        &self,
        subject: CardPinSubject,
        value: &CardPinValue,
        sealed: &SealedPayload,
        associated: &[u8],
    ) -> Result<bool, HsmError> {
        self.well()?.verify_card_pin(subject, value, sealed, associated)
    }
    fn store_share(
        &self,
        issuer: IssuerId,
        device: DeviceId,
        epoch: std::num::NonZeroU32,
    ) -> Result<Secret<[u8; STORE_SHARE_LENGTH]>, HsmError> {
        self.well()?.store_share(issuer, device, epoch)
    }
    fn seal_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &[u8],
    ) -> Result<SealedCardRecord, HsmError> {
        self.well()?.seal_card_record(issuer, owner, record)
    }
    fn open_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &SealedCardRecord,
        grant: &DetokenizationGrant<'_>,
    ) -> Result<Secret<Vec<u8>>, HsmError> {
        self.well()?.open_card_record(issuer, owner, record, grant)
    }
    fn pan_lookup(&self, issuer: IssuerId, pan: &Pan) -> Result<PanLookup, HsmError> {
        self.well()?.pan_lookup(issuer, pan)
    }
    fn demo_keys(&self, issuer: IssuerId, index: u8) -> Result<DemoKeys, HsmError> {
        self.well()?.demo_keys(issuer, index)
    }
    fn import_demo_issuer(
        &self,
        issuer: IssuerId,
        key: IssuerMasterKey,
        now: Timestamp,
    ) -> Result<IssuerKeys, HsmError> {
        self.making()?.import_demo_issuer(issuer, key, now).map(|made| self.made(made))
    }
}
