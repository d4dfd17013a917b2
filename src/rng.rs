//! Counter-based randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! A draw depends on what it is for and on nothing else, so that the same frame gets the same augmentation whatever the
//! thread, machine, restart or order.

/// One block of Philox4x32 with ten rounds.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        let a = u64::from(c[0]) * 0xD251_1F53;
        let b = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
    }
    c
}

/// What a draw is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Purpose {
    /// The job's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The asset's identity.
    pub asset: u64,
    /// The frame's time since the stream's start in microseconds (a clip's: its first frame's).
    pub time_us: i64,
    /// Which of several samples of the frame.
    pub variant: u32,
    /// Place of the operation in the list.
    pub op: u32,
}

/// A stream of numbers for one purpose.
#[derive(Debug, Clone)]
pub struct Draw {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Draw {
    /// The stream of `purpose`.
    pub fn new(purpose: Purpose) -> Draw {
        // 320 bits of purpose are folded into key and counter by Philox itself, block by block.
        let mut key = [purpose.seed as u32, (purpose.seed >> 32) as u32];
        for (part, extra) in [
            (purpose.epoch, u64::from(purpose.op)),
            (purpose.asset, u64::from(purpose.variant)),
            (purpose.time_us as u64, 0),
        ] {
            let block = philox4x32([part as u32, (part >> 32) as u32, extra as u32, (extra >> 32) as u32], key);
            key = [block[0], block[1]];
        }
        Draw { key, counter: [0; 4], block: [0; 4], used: 4 }
    }

    /// The next 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox4x32(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), 24 bits.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.bits() >> 8) / f64::from(1u32 << 24)
    }

    /// Uniform between both numbers.
    pub fn between(&mut self, [from, to]: [f64; 2]) -> f64 {
        from + (to - from) * self.unit()
    }

    /// A whole number less than `n`; each is as likely as any other, to 1 in `2^32 / n`.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(n)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn every_part_of_the_purpose_matters() {
        let base = Purpose { seed: 1, epoch: 0, asset: 7, time_us: 5, variant: 0, op: 0 };
        let others = [
            Purpose { seed: 2, ..base },
            Purpose { epoch: 1, ..base },
            Purpose { asset: 8, ..base },
            Purpose { time_us: 6, ..base },
            Purpose { variant: 1, ..base },
            Purpose { op: 1, ..base },
        ];
        let first = |p| Draw::new(p).bits();
        assert_eq!(first(base), first(base));
        assert!(others.into_iter().all(|other| first(other) != first(base)));
    }
}
