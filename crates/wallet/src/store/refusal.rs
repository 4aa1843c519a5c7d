//! Why the platform's share did not come, as the person reads it.

/// Why the store stays closed. The platform says it as the `type` of a problem (RFC 9457).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.english())]
pub enum StoreRefusal {
    /// `device_locked`: the issuer or the operator withholds the share.
    Locked,
    /// `store_rolled_back`: the platform has seen a newer store of this phone.
    RolledBack,
    /// The platform gave no answer. Nothing is wrong with the phone.
    NotReached,
}

impl StoreRefusal {
    /// The refusal behind a problem's type; `None` for problems of other kinds.
    #[must_use]
    pub fn of_problem(kind: &str) -> Option<Self> {
        match kind {
            "urn:tapfer:problem:device_locked" => Some(Self::Locked),
            "urn:tapfer:problem:store_rolled_back" => Some(Self::RolledBack),
            _ => None,
        }
    }

    /// What happened, why, and what to do.
    #[must_use]
    pub const fn english(self) -> &'static str {
        match self {
            Self::Locked => {
                "This phone is locked: your bank keeps its cards closed. Call your bank if you do not \
                 know why."
            }
            Self::RolledBack => {
                "The cards on this phone are an old copy: there is a newer one. If you have just \
                 restored the phone, remove the cards and add them again. If not, call your bank: \
                 somebody may have copied them."
            }
            Self::NotReached => {
                "The cards on this phone open only with a key from your bank, and it cannot be reached. \
                 Go online and try again."
            }
        }
    }

    /// The same in German.
    #[must_use]
    pub const fn german(self) -> &'static str {
        match self {
            Self::Locked => {
                "Dieses Telefon ist gesperrt: Ihre Bank hält seine Karten verschlossen. Rufen Sie Ihre \
                 Bank an, wenn Sie nicht wissen, warum."
            }
            Self::RolledBack => {
                "Die Karten auf diesem Telefon sind eine alte Kopie: Es gibt eine neuere. Wenn Sie das \
                 Telefon gerade wiederhergestellt haben, entfernen Sie die Karten und fügen Sie sie \
                 neu hinzu. Wenn nicht, rufen Sie Ihre Bank an: Jemand könnte sie kopiert haben."
            }
            Self::NotReached => {
                "Die Karten auf diesem Telefon öffnen sich nur mit einem Schlüssel Ihrer Bank, und sie \
                 ist nicht zu erreichen. Gehen Sie online und versuchen Sie es noch einmal."
            }
        }
    }
}
