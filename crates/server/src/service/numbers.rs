//! Card and token numbers: making them, sealing them, opening them.

use tapfer_hsm::{DetokenizationGrant, OperatorGrant, RecordOwner, SealedCardRecord};
use tapfer_payment_types::pan::check_digit;
use tapfer_payment_types::{CardId, IssuerId, Pan, Secret, TokenId, TokenPan};
use tapfer_payments::issuers::NumberPrefix;
use tapfer_storage::SealedNumber;

use crate::service::decisions::NOT_ANSWERED;
use crate::service::{Service, ServiceError};

/// Digits of the numbers that the platform makes.
const NUMBER_LENGTH: usize = 16;

/// A number of a range, whose other digits come from such bytes.
pub(super) fn number_of<const N: usize>(
    prefix: &NumberPrefix,
    mut random: impl FnMut() -> Result<Secret<[u8; N]>, ServiceError>,
) -> Result<Secret<String>, ServiceError> {
    let mut number = Secret::new(String::with_capacity(NUMBER_LENGTH));
    number.expose_mut().push_str(prefix.as_str());
    while number.expose().len() < NUMBER_LENGTH.saturating_sub(1) {
        for byte in random()?.expose() {
            // Above 249 the digits would not be equally likely.
            if *byte < 250 && number.expose().len() < NUMBER_LENGTH.saturating_sub(1) {
                let digit = char::from_digit(u32::from(byte.wrapping_rem(10)), 10);
                number.expose_mut().extend(digit);
            }
        }
    }
    let check = check_digit(number.expose());
    number.expose_mut().push(check);
    Ok(number)
}

impl Service {
    /// A new number of a range, from the security module's randomness.
    pub(super) fn draw_number(
        &self,
        prefix: &NumberPrefix,
    ) -> Result<Secret<String>, ServiceError> {
        number_of(prefix, || {
            let mut random = Secret::new([0_u8; 16]);
            self.ask_hsm("random", |hsm| hsm.random(random.expose_mut()))?;
            Ok(random)
        })
    }

    /// A card's number for keeping.
    pub(super) fn seal_card_number(
        &self,
        issuer: IssuerId,
        card: CardId,
        pan: &Pan,
    ) -> Result<SealedNumber, ServiceError> {
        self.seal_number(issuer, RecordOwner::Card(card), pan)
    }

    /// A token's number for keeping.
    pub(super) fn seal_token_number(
        &self,
        issuer: IssuerId,
        token: TokenId,
        token_pan: &TokenPan,
    ) -> Result<SealedNumber, ServiceError> {
        self.seal_number(issuer, RecordOwner::Token(token), &as_pan(token_pan)?)
    }

    fn seal_number(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        number: &Pan,
    ) -> Result<SealedNumber, ServiceError> {
        let sealed = self.ask_hsm("seal_card_record", |hsm| {
            hsm.seal_card_record(issuer, owner, number.expose().as_bytes())
        })?;
        let keyed_hash = self.number_hash(issuer, number)?;
        Ok(SealedNumber { sealed: sealed.0, keyed_hash })
    }

    /// Keyed hash of a number, by which it is found.
    pub(super) fn number_hash(
        &self,
        issuer: IssuerId,
        number: &Pan,
    ) -> Result<Vec<u8>, ServiceError> {
        let lookup = self.ask_hsm("pan_lookup", |hsm| hsm.pan_lookup(issuer, number))?;
        Ok(lookup.0.to_vec())
    }

    /// The keyed hashes of presented token numbers, in their order; `None` where there is no number, or it lies in
    /// no issuer's range.
    pub(super) fn presented_number_hashes(
        &self,
        numbers: &[Option<&TokenPan>],
    ) -> Vec<Result<Option<Vec<u8>>, ServiceError>> {
        let (mut known, mut places) = (Vec::new(), Vec::new());
        for number in numbers {
            let number = number.map_or(Ok(None), |number| self.number_of_issuer(number));
            places.push(number.map(|number| number.map(|number| known.push(number))));
        }
        let mut hashes = self
            .ask_hsm_for_all("pan_lookup", known.len(), |hsm| hsm.pan_lookups(&known))
            .into_iter();
        let mut next = || Ok(hashes.next().unwrap_or(Err(NOT_ANSWERED))?.0.to_vec());
        places.into_iter().map(|place| place?.map(|()| next()).transpose()).collect()
    }

    /// A token's number, and whose it is by its first digits.
    fn number_of_issuer(
        &self,
        token_pan: &TokenPan,
    ) -> Result<Option<(IssuerId, Pan)>, ServiceError> {
        let digits = token_pan.expose();
        let mut issuer = self.issuers.of_token(digits);
        if issuer.is_none() {
            self.issuers.refresh(&self.all_issuers()?);
            issuer = self.issuers.of_token(digits);
        }
        issuer.map(|issuer| Ok((issuer, as_pan(token_pan)?))).transpose()
    }

    /// A card's number in clear, for a person who gives a name and a reason.
    pub(super) fn open_card_number(
        &self,
        issuer: IssuerId,
        card: CardId,
        sealed: Vec<u8>,
        grant: OperatorGrant,
    ) -> Result<Pan, ServiceError> {
        let grant = DetokenizationGrant::Operator(grant);
        self.open_number(issuer, RecordOwner::Card(card), sealed, &grant)
    }

    /// A token's number in clear, to personalise its phone's profile with.
    pub(super) fn open_token_number(
        &self,
        issuer: IssuerId,
        token: TokenId,
        sealed: Vec<u8>,
    ) -> Result<TokenPan, ServiceError> {
        let grant = DetokenizationGrant::Personalisation(token);
        self.open_number(issuer, RecordOwner::Token(token), sealed, &grant)
    }

    fn open_number<T: core::str::FromStr>(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        sealed: Vec<u8>,
        grant: &DetokenizationGrant<'_>,
    ) -> Result<T, ServiceError> {
        let record = self.ask_hsm("open_card_record", |hsm| {
            hsm.open_card_record(issuer, owner, &SealedCardRecord(sealed), grant)
        })?;
        let digits = core::str::from_utf8(record.expose()).ok();
        digits
            .and_then(|digits| digits.parse().ok())
            .ok_or(ServiceError::Damaged("a sealed number"))
    }
}

/// The look-up key of an issuer hashes numbers of both kinds.
fn as_pan(token_pan: &TokenPan) -> Result<Pan, ServiceError> {
    token_pan.expose().parse().map_err(|_| ServiceError::Damaged("a token number"))
}
