//! Seeking and jumping, exactly: see the promises of [`VideoReader`].

use super::*;

/// Bytes up to which packets are read and thrown away rather than sought past.
const NEAR: i64 = 4 << 20;

/// Packets that a decoder with a usual number of threads holds.
const HELD: usize = 8;

/// Containers that state one length for all of their streams, which is the longest one's.
const ONE_LENGTH: [&str; 4] = ["matroska", "flv", "asf", "nut"];

/// Codecs that were compared: decoding that begins at a key sample gives what decoding from the start gives.
const EXACT: [&str; 9] = ["h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores", "dnxhd"];

impl VideoReader {
    /// Looks at all packets, which tells whether the video may be cut and jumped in, and fills
    /// [`VideoInfo::keyframes`], [`VideoInfo::packets`] and [`VideoInfo::indexed`]. Done once; an MP4 that is not fragmented
    /// is not read for it beyond its header, a Matroska file is read through.
    ///
    /// # Errors
    /// Input errors of kind `io`.
    pub fn scan(&mut self) -> Result<&VideoInfo> {
        match self.index() {
            Ok(_) => Ok(&self.info),
            Err(error) => Err(error.context(&self.uri)),
        }
    }

    /// When the last frame ends, in ticks by its packets, where the container's header may not tell: where it states only
    /// how long its longest stream is, or where an MP4's stream begins late, which its length counts or does not. `None` for
    /// others, and where the packets do not tell.
    ///
    /// # Errors
    /// Input errors of kind `io`.
    pub fn shown_until(&mut self) -> Result<Option<i64>> {
        let one_length = ONE_LENGTH.iter().any(|c| self.info.container.contains(c));
        let late = self.info.container.contains("mp4") && self.info.start_pts.is_some_and(|start| start > 0);
        if !one_length && !late {
            return Ok(None);
        }
        let found = match self.index() {
            Ok(Some(index)) => Ok(index.end()),
            Ok(None) if one_length => index::end(self.source.clone(), self.stream, self.options.max_pixels),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        found.map_err(|error| error.context(&self.uri))
    }

    /// Packets lie in another order than their frames are shown in. Where their times rise all the same, they are times of
    /// decoding (as after a copy from AVI), and only decoding all of them tells when a frame is shown.
    pub(super) fn reorders(&self) -> bool {
        matches!(self.info.codec.as_str(), "h264" | "hevc" | "mpeg4") && self.decoder.delay() > 0
    }

    fn index(&mut self) -> Result<Option<&PacketIndex>> {
        if matches!(self.index, Indexed::NotYet) {
            let fit = EXACT.contains(&self.info.codec.as_str());
            let container = ["mp4", "matroska"].iter().any(|c| self.info.container.contains(c));
            let found = if fit && container {
                let delay = self.decoder.delay();
                let found = PacketIndex::scan(self.source.clone(), self.stream, self.options.max_pixels, delay)?;
                found.filter(|index| !(self.reorders() && index.rises()))
            } else {
                None
            };
            self.info.indexed = found.is_some();
            self.info.keyframes = found.as_ref().map(PacketIndex::keyframes);
            self.info.packets = found.as_ref().map(PacketIndex::shown);
            self.index = found.map_or(Indexed::Unfit, Indexed::Fit);
        }
        Ok(match &self.index {
            Indexed::Fit(index) => Some(index),
            _ => None,
        })
    }

    /// Goes to where [`advance`](Self::advance) gives, from then on, exactly the frames with a time of `pts` or later
    /// that reading from the start would give. In indexed streams it begins one key sample earlier than needed and must
    /// see a frame before `pts`, else it steps back; all others are read from the start.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn seek_before(&mut self, pts: i64) -> Result<()> {
        self.seek(pts).map_err(|e| e.context(&self.uri))
    }

    fn seek(&mut self, pts: i64) -> Result<()> {
        self.current = None;
        self.forget_neighbours();
        self.index()?;
        self.begin(LeadIn { floor: pts, proof: Proof::Before, margin: 1 })
    }

    /// Where the next frame that is wanted is the first with a time of `pts` or later (or the one shown at `pts`): jumps to the
    /// last key sample not after it instead of decoding what lies between, where that is sound and spares work; true
    /// where it jumped. [`advance`](Self::advance) then goes on with that key sample's frame.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn wanted_seek(&mut self, pts: i64) -> Result<bool> {
        self.jump(pts).map_err(|e| e.context(&self.uri))
    }

    /// Something behind the wanted frame is asked for after all: decoding begins anew, for what comes behind the last one.
    pub(super) fn go_on(&mut self) -> Result<()> {
        self.stop = None;
        let last = self.ledger.last_shown();
        self.begin(LeadIn { floor: last.map_or(i64::MIN, |last| last + 1), proof: Proof::Before, margin: 1 })
    }

    pub(super) fn jump(&mut self, pts: i64) -> Result<bool> {
        let shown = self.current.and_then(|c| c.pts);
        let pending = self.lead_in.is_some_and(|l| l.proof != Proof::Given);
        if self.options.keyframes_only || self.damaged() || self.ended || pending || shown.is_none_or(|s| s >= pts) {
            return Ok(false);
        }
        // The frame before the first one that is given must be decoded where frames are deinterlaced.
        let margin = usize::from(self.open_gops || self.options.deinterlace != Deinterlace::Off);
        // What the decoder already holds is lost by a jump. How far it has read is judged by the frame that is shown,
        // not by the packets that its threads took in advance: what is counted must not depend on them.
        let held = HELD + 2 * usize::try_from(self.decoder.delay()).unwrap_or(0);
        let stop = self.stop;
        let Some(index) = self.index()? else { return Ok(false) };
        let Some(place) = shown.and_then(|pts| index.place(pts)) else { return Ok(false) };
        // Nothing behind the frame that is shown was taken where it was known to be the last.
        let held = if stop == Some(place) { 0 } else { held };
        let Some(key) = index.key_for(pts, false) else { return Ok(false) };
        let Some(start) = key.checked_sub(margin) else { return Ok(false) };
        if index.key(start).at <= place + held {
            return Ok(false);
        }
        let floor = index.key(key).pts;
        self.current = None;
        self.forget_neighbours();
        self.begin(LeadIn { floor, proof: Proof::At, margin })?;
        Ok(true)
    }

    /// A lead-in did not show what it had to: begins further back.
    pub(super) fn step_back(&mut self, lead: LeadIn) -> Result<()> {
        self.begin(LeadIn { margin: lead.margin * 2 + 1, ..lead })
    }

    /// Begins decoding where `lead` says, or at the start of the file.
    pub(super) fn begin(&mut self, mut lead: LeadIn) -> Result<()> {
        self.counters.seeks += 1;
        loop {
            let start = match &self.index {
                Indexed::Fit(index) => index
                    .key_for(lead.floor, lead.proof == Proof::Before)
                    .and_then(|key| key.checked_sub(lead.margin))
                    .map(|key| index.key(key).at),
                _ => None,
            };
            let Some(start) = start.filter(|&at| at > 0) else {
                self.restart()?;
                self.lead_in = Some(LeadIn { proof: Proof::Given, ..lead });
                return Ok(());
            };
            self.go_to(start)?;
            if lead.margin > 0 || self.clean_start() {
                self.lead_in = Some(lead);
                return Ok(());
            }
            self.open_gops = true;
            lead.margin = 1;
        }
    }

    /// Opens the file anew.
    fn restart(&mut self) -> Result<()> {
        self.forget_decoder();
        let mut input = Input::open(self.source.clone(), self.options.max_pixels)?;
        if !input.streams().get(self.stream).is_some_and(|s| s.video) {
            return Err(Error::input(RejectKind::Changed, "the file changed while it was read"));
        }
        input.select(self.stream);
        // A device's session outlasts the container.
        let fits = self.hardware.is_some() && self.decoder.fits(&input, self.stream);
        if !(fits && self.decoder.renew(&input, self.stream)) {
            self.decoder = open_decoder(&input, self.stream, &self.options, self.hardware.as_deref())?;
        }
        self.clock = Clock::new(self.info.time_base, self.decoder.frame_rate(), self.decoder.delay());
        self.input = input;
        self.cursor = Some(0);
        Ok(())
    }

    /// Leaves what the decoder holds, but not what it complained of.
    pub(super) fn forget_decoder(&mut self) {
        let (heard, first) = self.decoder.complaints();
        if heard > 0 {
            self.faults += heard;
            self.first_error = self.first_error.take().or(first);
            self.decoder.forget();
        }
        self.decoder.flush();
        self.ledger.leave();
        self.waiting = false;
        (self.draining, self.filled, self.anew) = (false, false, false);
        (self.stop, self.stopped) = (None, false);
        self.ended = false;
    }

    /// Makes the packet at place `at` the next to be decoded.
    fn go_to(&mut self, at: usize) -> Result<()> {
        // A packet read in advance is lost with the decoder, so it counts as passed.
        self.forget_decoder();
        let near = match (&self.index, self.cursor) {
            (Indexed::Fit(index), Some(c)) if c <= at => {
                (0..NEAR).contains(&(index.entry(at).position - index.entry(c).position))
            }
            _ => false,
        };
        if !near {
            self.land(at)?;
        }
        while !(self.waiting && self.cursor == Some(at + 1)) {
            self.waiting = false;
            if !self.fetch()? {
                return Err(Error::input(RejectKind::Changed, "the file has fewer packets than when it was indexed"));
            }
        }
        Ok(())
    }

    /// Seeks to the packet at place `at` or one before it. Demuxers may land behind what they were asked for; then it
    /// asks for ever earlier packets, and at last opens the file anew.
    fn land(&mut self, at: usize) -> Result<()> {
        let mut ask = Some(at);
        while let (Some(asked), Indexed::Fit(index)) = (ask, &self.index) {
            let stamp = index.seek_stamp(asked);
            self.cursor = None;
            let landed = self.input.seek(self.stream, stamp)? && self.fetch()?;
            if let (true, Indexed::Fit(index)) = (landed, &self.index)
                && let Some(place) = index.find(self.packet.pts(), self.packet.position())
                && place <= at
            {
                self.cursor = Some(place + 1);
                return Ok(());
            }
            self.waiting = false;
            ask = asked.checked_sub(1 + (at - asked) * 2);
        }
        self.restart()
    }

    /// True where the key sample waiting in `packet` needs nothing from before it.
    pub(super) fn clean_start(&self) -> bool {
        match self.info.codec.as_str() {
            "h264" | "hevc" => self.nals.is_some_and(|n| n.clean_start(self.packet.data())),
            _ => true,
        }
    }
}
