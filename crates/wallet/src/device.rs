//! What the device says about itself with every command.

use tapfer_payment_types::policy::UnlockMethod;

/// State of the device while a command is handled.
///
/// The wallet believes it: a device that lies here could as well leave the wallet out altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceState {
    /// The screen is on: someone has the phone in hand, and sees what happens.
    pub screen_on: bool,
    /// The person has unlocked the phone and it has not been locked since. Says nothing for a phone
    /// without a lock: see [`Self::is_unlocked`].
    pub unlocked: bool,
    /// How the person unlocks this phone. The policy may advise against some ways.
    pub unlock_method: UnlockMethod,
    /// Result of the device's integrity check as the issuer numbers it; 0 is "no verdict". Signed
    /// into every cryptogram.
    pub integrity_verdict: u8,
}

impl DeviceState {
    /// Whether the person has shown who she is by unlocking the phone. A phone without a lock calls itself
    /// unlocked in anybody's hands, and never is. A device that does not say how it is unlocked is
    /// believed to have a lock.
    #[must_use]
    pub fn is_unlocked(&self) -> bool {
        self.unlocked && self.unlock_method != UnlockMethod::None
    }
}
