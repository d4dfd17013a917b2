//! [`Losses`]: packets without a picture. A ledger of them balances, or says what nothing explains.

use serde::{Deserialize, Serialize};

/// Packets of which no picture came, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// The container says that they are decoded for others' sake only, as edit lists do.
    pub discarded: u64,
    /// Their pictures are not shown, as the codec says.
    pub hidden: u64,
    /// They lean on what lies before the first key sample that was decoded.
    pub leading: u64,
    /// Nothing refers to them and their frames are not wanted: they were not decoded.
    #[serde(default)]
    pub unwanted: u64,
    /// They did not decode.
    pub damaged: u64,
    /// Nothing explains it.
    pub unexplained: u64,
}

impl Losses {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.discarded + self.hidden + self.leading + self.unwanted + self.damaged + self.unexplained
    }
}

impl std::ops::AddAssign for Losses {
    fn add_assign(&mut self, o: Losses) {
        self.discarded += o.discarded;
        self.hidden += o.hidden;
        self.leading += o.leading;
        self.unwanted += o.unwanted;
        self.damaged += o.damaged;
        self.unexplained += o.unexplained;
    }
}
