//! How far the dialogue with a reader has come, and what each step has to remember.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tapfer_emv::channel::SecureChannel;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::merchant::MerchantProven;
use tapfer_emv::tlv::Tag;
use tapfer_payment_types::TokenId;

use super::merchant::Credential;
use super::relay::RelayCheck;

/// The steps of a tap. Each holds what only it may use; leaving it wipes that.
#[derive(Default)]
pub(super) enum Phase {
    /// Nothing selected.
    #[default]
    Idle,
    /// An application is selected. The terminal may present its credential.
    Selected(Application),
    /// GET PROCESSING OPTIONS is answered: the channel stands, the transaction has its counter.
    /// The relay check is made, records and stored data are read.
    Processing(Box<Session>),
    /// The cryptogram is out. If the terminal has announced it, stored data is written.
    CryptogramSent(Option<Box<Writing>>),
}

/// The selected application.
pub(super) struct Application {
    pub(super) token: TokenId,
    pub(super) credential: Credential,
}

/// One transaction.
pub(super) struct Session {
    pub(super) token: TokenId,
    pub(super) application_transaction_counter: u16,
    pub(super) channel: SecureChannel,
    /// Values of the PDOL as the terminal sent them: the IAD-MAC covers them.
    pub(super) pdol_values: Vec<u8>,
    pub(super) relay: RelayCheck,
    /// Who asks for the payment, if that was proven.
    pub(super) merchant: Option<MerchantProven>,
}

/// What is left of a transaction when its cryptogram is out.
pub(super) struct Writing {
    pub(super) token: TokenId,
    pub(super) channel: SecureChannel,
    /// The terminal has announced another WRITE DATA.
    pub(super) is_open: bool,
}

/// The value that a list of values holds for a tag, by its data object list.
pub(super) fn value_of<'v>(
    list: &DataObjectList,
    values: &'v [u8],
    wanted: Tag,
) -> Option<&'v [u8]> {
    list.split(values)?.into_iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| value)
}

/// A value of exactly `N` bytes.
pub(super) fn field<const N: usize>(value: Option<&[u8]>) -> Option<[u8; N]> {
    value?.try_into().ok()
}
