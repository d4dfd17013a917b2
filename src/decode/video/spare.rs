//! Sparing the decoder what nobody wants: it jumps from wanted frame to wanted frame where their key samples differ, is fed
//! nothing behind a frame that it jumps on from, and no packet whose frame is not wanted and nothing refers to.
//!
//! What is spared depends on the file and on what is wanted, not on how far the decoder's threads have read.

use super::*;

/// Whether a frame may be wanted, from the times of the frame shown before it, its own, and that of the one shown behind
/// it, in ticks.
pub type Wanted = Box<dyn Fn(Option<i64>, i64, Option<i64>) -> bool + Send>;

impl VideoReader {
    /// From now on, [`advance`](Self::advance) may leave out frames that are not `wanted`, but not the first one that it gives;
    /// it ends with the last wanted one. Nothing is left out where the packets are not [`indexed`](VideoInfo::indexed),
    /// frames are deinterlaced or key samples alone are read. Where a wanted frame does not come, the reader is
    /// [`damaged`](Self::damaged).
    ///
    /// # Errors
    /// Those of [`scan`](Self::scan).
    pub fn spare(&mut self, wanted: Wanted) -> Result<()> {
        if self.options.deinterlace == Deinterlace::Off && !self.options.keyframes_only {
            self.scan()?;
            self.wanted = Some(wanted);
        }
        Ok(())
    }

    /// [`spare`](Self::spare) was asked for.
    pub fn spares(&self) -> bool {
        self.wanted.is_some()
    }

    /// Time of the frame behind the last wanted one, where reading ended without it.
    pub fn left_out(&self) -> Option<i64> {
        self.left_out
    }

    /// For a part that does not begin with the stream: goes to where the first wanted frame at `pts` or behind it can be decoded
    /// from, without looking at any before it; gives the time of the frame shown before `pts`, which is all that others
    /// are judged by. `None`, and nothing done, where only reading tells.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn begin_at(&mut self, pts: i64) -> Result<Option<i64>> {
        let (Some(_), Indexed::Fit(index)) = (&self.wanted, &self.index) else { return Ok(None) };
        let Some(before) = index.neighbours(pts).0.filter(|_| self.whole(index)) else { return Ok(None) };
        let Some(next) = self.next_wanted(before) else {
            self.left_out = index.neighbours(before).1;
            self.ended = true;
            return Ok(Some(before));
        };
        let Some(key) = index.key_for(next, false) else { return Ok(None) };
        let floor = index.key(key).pts;
        self.begin(LeadIn { floor, proof: Proof::At, margin: usize::from(self.open_gops) })
            .map_err(|e| e.context(&self.uri))?;
        self.aim = Some(next);
        self.stop = self.last_needed(next);
        Ok(Some(before))
    }

    /// Makes for the next wanted frame, or ends where there is none.
    pub(super) fn aim(&mut self) -> Result<()> {
        let (Some(_), Indexed::Fit(index)) = (&self.wanted, &self.index) else { return Ok(()) };
        let Some(shown) = self.current.and_then(|c| c.pts) else {
            let first = index.shown_behind(i64::MIN).next();
            if let (Some(first), None, Some(0), None) = (first, self.aim, self.cursor, self.lead_in) {
                self.aim = Some(first);
                self.stop = self.last_needed(first);
            }
            return Ok(());
        };
        let pending = self.lead_in.is_some_and(|l| l.proof != Proof::Given);
        if pending || self.damaged() || self.ended || self.aim.is_some_and(|aim| shown < aim) {
            return Ok(());
        }
        let Some(next) = self.next_wanted(shown) else {
            self.aim = Some(i64::MAX);
            // A file that was cut has to show that.
            if self.whole(index) {
                self.left_out = index.neighbours(shown).1;
                self.forget_decoder();
                self.ended = true;
            }
            return Ok(());
        };
        self.jump(next)?;
        self.aim = Some(next);
        self.stop = self.last_needed(next);
        Ok(())
    }

    /// Time of the first wanted frame behind the one at `pts`.
    fn next_wanted(&self, pts: i64) -> Option<i64> {
        let (Some(wanted), Indexed::Fit(index)) = (&self.wanted, &self.index) else { return None };
        let (mut before, mut behind) = (pts, index.shown_behind(pts).peekable());
        while let Some(pts) = behind.next() {
            if wanted(Some(before), pts, behind.peek().copied()) {
                return Some(pts);
            }
            before = pts;
        }
        None
    }

    /// Place of the packet of the wanted frame at `pts`, where decoding goes on elsewhere behind it or not at all.
    fn last_needed(&self, pts: i64) -> Option<usize> {
        let Indexed::Fit(index) = &self.index else { return None };
        let place = index.place(pts)?;
        let Some(next) = self.next_wanted(pts) else { return self.whole(index).then_some(place) };
        let start = index.key_for(next, false)?.checked_sub(usize::from(self.open_gops))?;
        (index.key(start).at > place).then_some(place)
    }

    /// All packets are there.
    fn whole(&self, index: &PacketIndex) -> bool {
        index.fits(self.source.len())
    }

    /// Whether the frame of the packet that was read may be wanted; `None` where that cannot be told.
    pub(super) fn packet_wanted(&self) -> Option<bool> {
        let (Some(wanted), Indexed::Fit(index)) = (&self.wanted, &self.index) else { return None };
        let pts = self.packet.pts()?;
        let place = index.find(Some(pts), self.packet.position())?;
        // Which of the frames before the first key sample decode is seen only when they do.
        if self.cursor != Some(place + 1) || self.packet.discard() || pts < index.key(0).pts {
            return None;
        }
        let (before, behind) = index.neighbours(pts);
        Some(wanted(before, pts, behind))
    }

    /// Nothing refers to the packet that was read, and it is whole as far as the container knows. Only H.264 and HEVC tell.
    pub(super) fn packet_disposable(&self) -> bool {
        let packet = &self.packet;
        let whole = !packet.key() && !packet.corrupt() && !packet.encrypted();
        whole && self.nals.is_some_and(|nals| nals.disposable(packet.data()))
    }
}
