//! Terminal action analysis: decline, go online, or approve (Book C-8 TAA.1 to TAA.6).

use tapfer_emv::tags;

use super::transaction::Transaction;

/// What is asked of the card, and what the kernel itself thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// AAC
    Decline,
    /// TC
    Approve,
    /// ARQC
    GoOnline,
}

impl Decision {
    /// Reference control parameter, P1 of GENERATE AC.
    pub(super) const fn reference_control_parameter(self) -> u8 {
        match self {
            Self::Decline => 0x00,
            Self::Approve => 0x40,
            Self::GoOnline => 0x80,
        }
    }

    /// From the two high bits of the cryptogram information data. `None`: reserved.
    pub(super) const fn from_cryptogram_information(byte: u8) -> Option<Self> {
        match byte & 0xC0 {
            0x00 => Some(Self::Decline),
            0x40 => Some(Self::Approve),
            0x80 => Some(Self::GoOnline),
            _ => None,
        }
    }
}

/// Whether terminals of this type can go online, must, or both (Book 4 annex A1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    OnlineOnly,
    OfflineOnly,
    Both,
}

const fn reach(terminal_type: u8) -> Reach {
    match terminal_type {
        0x11 | 0x14 | 0x21 | 0x24 | 0x34 => Reach::OnlineOnly,
        0x13 | 0x16 | 0x23 | 0x26 | 0x36 => Reach::OfflineOnly,
        _ => Reach::Both,
    }
}

/// Decides by the verification results as they are now.
pub(super) fn decide(transaction: &Transaction) -> Decision {
    let configuration = &transaction.configuration;
    let tvr = transaction.tvr();
    if tvr.intersects(configuration.terminal_action_code_denial) {
        return Decision::Decline;
    }
    let [_, profile] = transaction.interchange_profile();
    // AIP byte 2 bit 4 clear: the card is never approved offline.
    let card_is_online_only = profile & 0x08 == 0;
    let terminal_type =
        transaction.data.byte(tags::TERMINAL_TYPE).unwrap_or(configuration.terminal_type);
    match (reach(terminal_type), card_is_online_only) {
        (Reach::OnlineOnly, _) | (Reach::Both, true) => Decision::GoOnline,
        (Reach::OfflineOnly, true) => Decision::Decline,
        (Reach::OfflineOnly, false) => Decision::Approve,
        (Reach::Both, false) if tvr.intersects(configuration.terminal_action_code_online) => {
            Decision::GoOnline
        }
        (Reach::Both, false) => Decision::Approve,
    }
}
