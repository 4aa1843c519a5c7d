//! P-256 as Book E uses it: points travel as x only, and long-term key pairs are made so that
//! y < (p+1)/2, which lets the receiver restore y (Book E 7.1, 8.8).
//!
//! Secret scalars are wiped on drop, and so are the shared points made from them. Temporaries inside
//! the curve library live on the stack until they are overwritten; it offers no hook to wipe those.

#![expect(clippy::arithmetic_side_effects, reason = "arithmetic of the curve is modulo p and n")]

use core::fmt;

use p256::elliptic_curve::PrimeField;
use p256::elliptic_curve::point::{AffineCoordinates, DecompressPoint};
use p256::{AffinePoint, FieldBytes, NonZeroScalar, ProjectivePoint, Scalar};
use rand_core::CryptoRng;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tapfer_payment_types::Secret;

/// Bytes that are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CurveError {
    /// A private key is 1 to n-1.
    #[error("the private key is not a number from 1 to n-1 of P-256; generate another")]
    Scalar,
    /// No point of the curve has this x.
    #[error("no point of P-256 has this x coordinate; the sender's key is damaged or forged")]
    XCoordinate,
    /// x and y do not belong together.
    #[error("the coordinates are not a point of P-256; the sender's key is damaged or forged")]
    Point,
}

/// Whether y < (p+1)/2, in other words y < p - y (Book E 8.8).
pub(crate) fn has_smaller_y(point: &AffinePoint) -> bool {
    point.y() < (-*point).y()
}

/// x coordinate of a point, 32 bytes big endian, known to be on the curve.
#[derive(Clone, Copy)]
pub struct PublicX {
    bytes: [u8; 32],
    /// Of the two points with this x the one with the smaller y.
    point: AffinePoint,
}

impl PublicX {
    /// Restores the point (Book E 8.8.2).
    ///
    /// # Errors
    /// [`CurveError::XCoordinate`] if x is not below p or no point has it.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CurveError> {
        let decompressed = AffinePoint::decompress(&FieldBytes::from(*bytes), Choice::from(0));
        let point = Option::<AffinePoint>::from(decompressed).ok_or(CurveError::XCoordinate)?;
        Ok(Self::of(point))
    }

    /// x of a point that is known to be on the curve and not the point at infinity.
    pub(crate) fn of(point: AffinePoint) -> Self {
        let point = if has_smaller_y(&point) { point } else { -point };
        Self { bytes: point.x().into(), point }
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(crate) const fn point(&self) -> &AffinePoint {
        &self.point
    }
}

impl PartialEq for PublicX {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicX {}

impl fmt::Debug for PublicX {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicX(")?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A private key with its public point. Wiped on drop; `Debug` shows nothing of it.
#[derive(Debug)]
pub struct PrivateKey {
    scalar: Secret<NonZeroScalar>,
    public: AffinePoint,
}

impl PrivateKey {
    /// Draws a key pair, and takes the negative of the number drawn if y would be the larger one
    /// (Book E 8.8.1).
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let drawn = Self::draw(rng);
        let negate = Choice::from(u8::from(!has_smaller_y(&drawn.public)));
        let scalar = drawn.scalar.expose();
        Self::of(NonZeroScalar::conditional_select(scalar, &-*scalar, negate))
    }

    /// Draws a key pair without regard to y.
    pub(crate) fn draw(rng: &mut impl CryptoRng) -> Self {
        Self::of(*draw_scalar(rng).expose())
    }

    /// Takes a number as it is given: y of the public point may be the smaller or the larger one.
    /// Diffie-Hellman does not mind, signatures are made to fit the smaller.
    ///
    /// # Errors
    /// [`CurveError::Scalar`] unless the number is 1 to n-1.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CurveError> {
        read_scalar(bytes).map(|scalar| Self::of(*scalar.expose()))
    }

    fn of(scalar: NonZeroScalar) -> Self {
        let public = (ProjectivePoint::GENERATOR * *scalar).to_affine();
        Self { scalar: Secret::new(scalar), public }
    }

    /// The number, 32 bytes big endian.
    #[must_use]
    pub fn to_bytes(&self) -> Secret<[u8; 32]> {
        Secret::new(self.scalar.expose().to_repr().into())
    }

    /// x of the public key, as it travels in certificates.
    #[must_use]
    pub fn public_x(&self) -> PublicX {
        PublicX::of(self.public)
    }

    /// x ‖ y, as the kernel's ephemeral key travels in `9E`.
    #[must_use]
    pub fn public_point(&self) -> [u8; 64] {
        PublicPoint(self.public).bytes()
    }

    /// x of the product with the other side's point. Either of the two points with the other side's
    /// x gives the same (Book E 7.1).
    #[must_use]
    pub fn shared_x(&self, other: &PublicX) -> Secret<[u8; 32]> {
        self.shared_x_with(other.point())
    }

    pub(crate) fn shared_x_with(&self, point: &AffinePoint) -> Secret<[u8; 32]> {
        multiply(point, self.scalar())
    }

    pub(crate) fn scalar(&self) -> &Scalar {
        self.scalar.expose()
    }

    pub(crate) fn non_zero_scalar(&self) -> &NonZeroScalar {
        self.scalar.expose()
    }

    /// The number that belongs to the smaller y, which is what a receiver of x restores.
    pub(crate) fn signing_scalar(&self) -> Secret<Scalar> {
        let negate = Choice::from(u8::from(!has_smaller_y(&self.public)));
        let scalar = self.scalar();
        Secret::new(Scalar::conditional_select(scalar, &-*scalar, negate))
    }
}

/// The number r that blinds a card's key: 1 < r < n-1, because 1 and n-1 would leave x as it is
/// (Book E 7.1). Wiped on drop.
pub(crate) struct BlindingScalar(Secret<NonZeroScalar>);

impl BlindingScalar {
    pub(crate) fn draw(rng: &mut impl CryptoRng) -> Self {
        loop {
            if let Some(blinding) = Self::of(draw_scalar(rng)) {
                return blinding;
            }
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CurveError> {
        Self::of(read_scalar(bytes)?).ok_or(CurveError::Scalar)
    }

    fn of(scalar: Secret<NonZeroScalar>) -> Option<Self> {
        let number: &Scalar = scalar.expose();
        let blinds_nothing = number.ct_eq(&Scalar::ONE) | number.ct_eq(&-Scalar::ONE);
        (!bool::from(blinds_nothing)).then_some(Self(scalar))
    }

    pub(crate) fn to_bytes(&self) -> Secret<[u8; 32]> {
        Secret::new(self.0.expose().to_repr().into())
    }

    /// The key pair whose private key is d·r.
    pub(crate) fn blind(&self, key: &PrivateKey) -> PrivateKey {
        PrivateKey::of(*key.scalar.expose() * *self.0.expose())
    }

    /// x of r·Q.
    pub(crate) fn blinded_x(&self, key: &PublicX) -> Secret<[u8; 32]> {
        multiply(key.point(), self.0.expose())
    }
}

/// A number from 1 to n-1 by rejection: every one is equally likely.
fn draw_scalar(rng: &mut impl CryptoRng) -> Secret<NonZeroScalar> {
    let mut bytes = Secret::new([0; 32]);
    loop {
        rng.fill_bytes(bytes.expose_mut());
        if let Ok(scalar) = read_scalar(bytes.expose()) {
            return scalar;
        }
    }
}

fn read_scalar(bytes: &[u8; 32]) -> Result<Secret<NonZeroScalar>, CurveError> {
    let scalar = NonZeroScalar::from_repr(FieldBytes::from(*bytes));
    Option::<NonZeroScalar>::from(scalar).map(Secret::new).ok_or(CurveError::Scalar)
}

/// x of the product.
fn multiply(point: &AffinePoint, scalar: &Scalar) -> Secret<[u8; 32]> {
    let product = Secret::new(ProjectivePoint::from(*point) * *scalar);
    let shared = Secret::new(product.expose().to_affine());
    Secret::new(shared.expose().x().into())
}

/// A point given as x ‖ y, checked to be on the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicPoint(AffinePoint);

impl PublicPoint {
    /// Checks that the point is on the curve.
    ///
    /// # Errors
    /// [`CurveError::Point`] if it is not.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, CurveError> {
        let (x, y) = bytes.split_at(32);
        let coordinate = |half: &[u8]| FieldBytes::try_from(half).map_err(|_| CurveError::Point);
        let point = AffinePoint::from_coordinates(&coordinate(x)?, &coordinate(y)?);
        Option::<AffinePoint>::from(point).map(Self).ok_or(CurveError::Point)
    }

    /// A point that is known to be on the curve and not the point at infinity.
    pub(crate) const fn of(point: AffinePoint) -> Self {
        Self(point)
    }

    /// x ‖ y.
    #[must_use]
    pub fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let (x, y) = bytes.split_at_mut(32);
        x.copy_from_slice(&self.0.x());
        y.copy_from_slice(&self.0.y());
        bytes
    }

    pub(crate) const fn point(&self) -> &AffinePoint {
        &self.0
    }
}
