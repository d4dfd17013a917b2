//! [`Ledger`]: what became of each packet that a decoder was given.
//!
//! Promises: packets + extra pictures = pictures + losses, each loss with its reason. What is counted depends on the
//! pictures that came and on nothing else: not on how many packets a decoder's threads had taken in advance.

use std::collections::VecDeque;

use crate::decode::losses::Losses;

/// A packet whose picture has not come yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Presentation time in ticks.
    pub pts: Option<i64>,
    /// The container calls it a key sample.
    pub key: bool,
    /// It is marked as corrupt.
    pub corrupt: bool,
    /// Its picture is left out by the container.
    pub discard: bool,
    /// Its picture is not shown.
    pub hidden: bool,
    /// Its frame may be wanted.
    pub wanted: bool,
    /// It was not given to the decoder.
    pub spared: bool,
}

/// Packets that are remembered one by one. Those that have waited longer have no picture: no codec holds back so many.
const REMEMBERED: usize = 256;

/// Follows packets and pictures.
#[derive(Default)]
pub(super) struct Ledger {
    /// With their numbers.
    inside: VecDeque<(u64, Entry)>,
    given: u64,
    /// Number of the latest packet whose picture came since decoding began.
    newest: Option<u64>,
    /// Time of the first and of the last picture since decoding began.
    first_shown: Option<i64>,
    last_shown: Option<i64>,
    ended: bool,
    /// Pictures without a packet.
    extra: u64,
    /// Packets that decoders held when they were left.
    held_back: u64,
    losses: Losses,
}

impl Ledger {
    /// A packet was read for the decoder.
    pub fn packet(&mut self, entry: Entry) {
        self.inside.push_back((self.given, entry));
        self.given += 1;
        if self.inside.len() > REMEMBERED
            && let Some((_, entry)) = self.inside.pop_front()
        {
            let loss = self.reason(&entry);
            self.losses += loss;
        }
    }

    /// A picture came that has this time; gives its packet.
    pub fn picture(&mut self, pts: Option<i64>) -> Option<Entry> {
        let own = |e: &Entry| e.pts == pts && !e.spared;
        let mut all = self.inside.iter();
        let at = all.position(|(_, e)| own(e) && !e.hidden && !e.discard);
        let at = at.or_else(|| self.inside.iter().position(|(_, e)| own(e)));
        self.first_shown = self.first_shown.or(pts);
        self.last_shown = pts.or(self.last_shown);
        let Some((number, entry)) = at.and_then(|at| self.inside.remove(at)) else {
            self.extra += 1;
            return None;
        };
        self.newest = self.newest.max(Some(number));
        Some(entry)
    }

    /// A picture that came is not to count.
    pub fn put_back(&mut self, pts: i64) {
        if let Some(at) = self.inside.iter().position(|(_, e)| e.pts == Some(pts) && !e.spared) {
            self.inside.remove(at);
            self.held_back += 1;
        }
    }

    /// No more pictures come of what is inside.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Decoding begins elsewhere: what waits inside is lost where it cannot come any more, and else held back.
    pub fn leave(&mut self) {
        self.losses = self.losses();
        self.held_back += self.held();
        self.inside.clear();
        (self.newest, self.first_shown, self.last_shown, self.ended) = (None, None, None, false);
    }

    /// Packets that were given to decoders and not held when these were left.
    pub fn packets(&self) -> u64 {
        self.given - self.held_back - self.held()
    }

    /// Pictures beyond one a packet.
    pub fn extra(&self) -> u64 {
        self.extra
    }

    /// Packets that gave no picture; damage is not told from what nothing explains.
    pub fn losses(&self) -> Losses {
        let mut all = self.losses;
        self.inside.iter().filter(|(number, e)| self.lost(*number, e)).for_each(|(_, e)| all += self.reason(e));
        all
    }

    /// The packets inside.
    pub fn inside(&self) -> impl Iterator<Item = &Entry> {
        self.inside.iter().map(|(_, entry)| entry)
    }

    /// Time of the last picture since decoding began.
    pub fn last_shown(&self) -> Option<i64> {
        self.last_shown
    }

    fn held(&self) -> u64 {
        self.inside.iter().filter(|(number, e)| !self.lost(*number, e)).count() as u64
    }

    /// Its picture comes no more: the decoder has gone beyond it, in decoding and in presentation.
    fn lost(&self, number: u64, entry: &Entry) -> bool {
        let passed = self.newest.is_some_and(|newest| number < newest);
        self.ended || (passed && entry.pts.zip(self.last_shown).is_some_and(|(own, last)| own < last))
    }

    fn reason(&self, entry: &Entry) -> Losses {
        let leading = !entry.key && entry.pts.zip(self.first_shown).is_some_and(|(own, first)| own < first);
        let mut loss = Losses::default();
        *match (entry.spared, entry.discard, entry.hidden, leading) {
            (true, _, _, _) => &mut loss.unwanted,
            (_, true, _, _) => &mut loss.discarded,
            (_, _, true, _) => &mut loss.hidden,
            (_, _, _, true) => &mut loss.leading,
            _ => &mut loss.unexplained,
        } = 1;
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pts: i64) -> Entry {
        let (key, no) = (pts == 0, false);
        Entry { pts: Some(pts), key, corrupt: no, discard: no, hidden: no, wanted: no, spared: no }
    }

    fn balance(ledger: &Ledger, pictures: u64) {
        assert_eq!(ledger.packets() + ledger.extra(), pictures + ledger.losses().total());
    }

    #[test]
    fn what_is_held_is_neither_read_nor_lost() {
        let mut ledger = Ledger::default();
        [0, 3, 1, 2].into_iter().for_each(|pts| ledger.packet(entry(pts)));
        assert_eq!((ledger.packets(), ledger.losses().total()), (0, 0));
        [0, 1].into_iter().for_each(|pts| assert_eq!(ledger.picture(Some(pts)).and_then(|e| e.pts), Some(pts)));
        balance(&ledger, 2);
        ledger.leave();
        assert_eq!((ledger.packets(), ledger.losses()), (2, Losses::default()));
    }

    #[test]
    fn each_loss_has_its_reason() {
        let mut ledger = Ledger::default();
        ledger.packet(Entry { discard: true, ..entry(-8) });
        ledger.packet(Entry { key: true, ..entry(2) });
        ledger.packet(entry(1));
        // A picture that is not shown has the time of the one that is.
        ledger.packet(Entry { hidden: true, ..entry(4) });
        ledger.packet(entry(4));
        ledger.packet(entry(5));
        ledger.packet(entry(6));
        [2, 4, 6].into_iter().for_each(|pts| assert!(ledger.picture(Some(pts)).is_some_and(|e| !e.hidden)));
        let told = Losses { discarded: 1, leading: 1, unexplained: 1, ..Losses::default() };
        assert_eq!(ledger.losses(), Losses { hidden: 1, ..told });
        balance(&ledger, 3);
        ledger.packet(entry(7));
        balance(&ledger, 3);
        ledger.end();
        assert_eq!(ledger.losses(), Losses { hidden: 1, unexplained: 2, ..told });
        balance(&ledger, 3);
    }

    #[test]
    fn pictures_beyond_one_a_packet_are_counted() {
        let mut ledger = Ledger::default();
        ledger.packet(entry(0));
        assert!(ledger.picture(Some(0)).is_some() && ledger.picture(Some(0)).is_none());
        assert_eq!((ledger.packets(), ledger.extra()), (1, 1));
        balance(&ledger, 2);
    }

    #[test]
    fn a_picture_that_is_put_back_was_never_read() {
        let mut ledger = Ledger::default();
        [0, 2, 1].into_iter().for_each(|pts| ledger.packet(entry(pts)));
        assert!(ledger.picture(Some(0)).is_some());
        ledger.put_back(1);
        assert!(ledger.picture(Some(2)).is_some());
        assert_eq!((ledger.packets(), ledger.losses()), (2, Losses::default()));
        balance(&ledger, 2);
    }

    #[test]
    fn what_is_spared_counts_once_it_is_passed() {
        let mut ledger = Ledger::default();
        [0, 4].into_iter().for_each(|pts| ledger.packet(entry(pts)));
        [2, 1, 3].into_iter().for_each(|pts| ledger.packet(Entry { spared: true, ..entry(pts) }));
        [8, 5].into_iter().for_each(|pts| ledger.packet(Entry { spared: pts == 5, ..entry(pts) }));
        assert!(ledger.picture(Some(0)).is_some());
        assert_eq!((ledger.packets(), ledger.losses().unwanted), (1, 0));
        [4, 8].into_iter().for_each(|pts| assert!(ledger.picture(Some(pts)).is_some()));
        // The one at 5 may have been read in advance.
        assert_eq!((ledger.packets(), ledger.losses()), (6, Losses { unwanted: 3, ..Losses::default() }));
        balance(&ledger, 3);
    }

    #[test]
    fn whoever_waits_too_long_is_lost() {
        let mut ledger = Ledger::default();
        (0..300).for_each(|pts| ledger.packet(entry(pts)));
        assert_eq!(ledger.losses().unexplained, 300 - REMEMBERED as u64);
        balance(&ledger, 0);
    }
}
