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
    let [_, profile] = transaction.interchange_profile();
    let terminal_type =
        transaction.data.byte(tags::TERMINAL_TYPE).unwrap_or(configuration.terminal_type);
    analyse(&Circumstances {
        is_denied: tvr.intersects(configuration.terminal_action_code_denial),
        is_online: tvr.intersects(configuration.terminal_action_code_online),
        terminal: reach(terminal_type),
        // AIP byte 2 bit 4 clear: the card is never approved offline.
        card_is_online_only: profile & 0x08 == 0,
    })
}

/// What the decision depends on.
struct Circumstances {
    is_denied: bool,
    is_online: bool,
    terminal: Reach,
    card_is_online_only: bool,
}

const fn analyse(circumstances: &Circumstances) -> Decision {
    if circumstances.is_denied {
        return Decision::Decline;
    }
    match (circumstances.terminal, circumstances.card_is_online_only) {
        (Reach::OnlineOnly, _) | (Reach::Both, true) => Decision::GoOnline,
        (Reach::OfflineOnly, true) => Decision::Decline,
        (Reach::OfflineOnly, false) => Decision::Approve,
        (Reach::Both, false) if circumstances.is_online => Decision::GoOnline,
        (Reach::Both, false) => Decision::Approve,
    }
}

#[cfg(test)]
mod tests {
    use super::{Circumstances, Decision, analyse, reach};

    /// terminal type, online-only card, TVR & denial, TVR & online → decision
    const TABLE: &str = "
        22 yes no  no  online
        22 yes no  yes online
        22 no  no  no  approve
        22 no  no  yes online
        22 no  yes no  decline
        22 yes yes yes decline
        21 no  no  no  online
        21 no  yes no  decline
        23 yes no  no  decline
        23 no  no  no  approve
        23 no  no  yes approve
        23 no  yes no  decline
        11 no  no  no  online
        14 no  no  no  online
        24 no  no  no  online
        34 no  no  no  online
        13 no  no  yes approve
        16 no  no  yes approve
        26 no  no  yes approve
        36 no  no  yes approve
        25 no  no  no  approve
    ";

    #[test]
    fn the_decision_in_a_table() {
        for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is = |word: usize| words[word] == "yes";
            let decision = analyse(&Circumstances {
                terminal: reach(u8::from_str_radix(words[0], 16).unwrap()),
                card_is_online_only: is(1),
                is_denied: is(2),
                is_online: is(3),
            });
            let expected = match words[4] {
                "online" => Decision::GoOnline,
                "approve" => Decision::Approve,
                _ => Decision::Decline,
            };
            assert_eq!(decision, expected, "{line}");
        }
    }
}
