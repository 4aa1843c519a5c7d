//! P-256 as Book E uses it: points travel as x only, key pairs are made so that y < (p+1)/2 (Book E 7.1, 8.8).
use rand_core::CryptoRng;
use tapfer_payment_types::Secret;
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CurveError { /* not a scalar 1..n-1; x not on the curve; point not on the curve */ }
/// x coordinate of a point, 32 bytes big endian, known to be on the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicX([u8; 32]);
impl PublicX {
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CurveError> { todo!() }
    pub const fn bytes(&self) -> &[u8; 32] { &self.0 }
}
/// A scalar whose public point has the smaller y. Wiped on drop, no Debug of the value.
pub struct PrivateKey(/* NonZeroScalar */);
impl PrivateKey {
    /// Draws a key pair; negates the scalar if y is the larger one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self { todo!() }
    /// Takes a scalar as it is given (golden vectors have both signs): operations on x do not mind.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CurveError> { todo!() }
    pub fn to_bytes(&self) -> Secret<[u8; 32]> { todo!() }
    pub fn public_x(&self) -> PublicX { todo!() }
    /// x ‖ y, as the kernel's ephemeral key travels in `9E`.
    pub fn public_point(&self) -> [u8; 64] { todo!() }
}
/// A point given as x ‖ y, checked to be on the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicPoint(/* AffinePoint */);
impl PublicPoint { pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, CurveError> { todo!() } pub fn bytes(&self) -> [u8; 64] { todo!() } }
