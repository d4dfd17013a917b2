//! Feeding the decoder and taking its frames.

use super::ledger::Entry;
use super::*;

/// Packets after which it must have shown that frames come in another order.
const ENOUGH: u64 = 64;

/// Whether packets' presentation times rise only.
#[derive(Default)]
pub(super) struct Order {
    latest: Option<i64>,
    packets: u64,
    overtaken: bool,
}

impl Order {
    fn see(&mut self, pts: Option<i64>) {
        self.packets += 1;
        self.overtaken |= pts.is_some() && pts < self.latest;
        self.latest = self.latest.max(pts);
    }
}

impl VideoReader {
    /// The decoder's next frame, whatever a lead-in makes of it; `None` at the end.
    pub(super) fn decode(&mut self) -> Result<Option<FrameMeta>> {
        self.current = None;
        let mut failures = 0;
        while !self.ended {
            match self.receive() {
                Receive::Picture if self.beyond() => {}
                Receive::Picture => return self.look().map(Some),
                Receive::End | Receive::Hungry if self.stopped => {
                    // The frame for whose sake it stopped may be what is missing.
                    self.lost(None);
                    self.go_on()?;
                }
                Receive::End | Receive::Hungry if self.anew => {
                    self.decoder.flush();
                    (self.anew, self.draining) = (false, false);
                }
                Receive::End => self.end(),
                Receive::Hungry if self.draining => self.end(),
                Receive::Hungry => {
                    self.feed()?;
                    failures = 0;
                }
                Receive::Failed(error) => {
                    self.fault(error);
                    failures += 1;
                    // A decoder that neither takes nor gives must not hang the run. Hardware is left at once.
                    if failures == PATIENCE || self.hardware.is_some() {
                        self.ended = true;
                        self.ledger.end();
                    }
                }
            }
        }
        Ok(None)
    }

    /// The picture is of a packet behind the last one that is needed, which was there before that was known: how many such
    /// there are depends on the decoder's threads, so they do not count.
    fn beyond(&mut self) -> bool {
        let (Some(stop), Indexed::Fit(index)) = (self.stop, &self.index) else { return false };
        let Some(pts) = self.picture.info().pts.filter(|pts| *pts < index.entry(stop).pts) else { return false };
        let beyond = index.place(pts).is_some_and(|at| at > stop);
        if beyond {
            self.ledger.put_back(pts);
        }
        beyond
    }

    /// The decoder's next picture; the test decoder fails here as it is told.
    fn receive(&mut self) -> Receive {
        loop {
            let received = self.decoder.receive(&mut self.picture);
            let Some(Device::Test(fault)) = self.hardware.as_ref().map(|h| &h.device) else { return received };
            if received != Receive::Picture {
                return received;
            }
            let (fault, picture) = (*fault, self.pictures);
            self.pictures += 1;
            match fault {
                Fault::Drop(at) if picture == at => continue,
                Fault::Corrupt(at) if picture == at => self.fault("a picture was made damaged"),
                Fault::Die(at) if picture >= at => return Receive::Failed("the test decoder died".into()),
                _ => {}
            }
            return received;
        }
    }

    /// No more pictures come.
    fn end(&mut self) {
        self.ended = true;
        self.lost(None);
        self.ledger.end();
    }

    /// A hardware decoder is at fault that gave no picture for a packet between the last picture and the one shown `now`
    /// (or the end), any decoder where that frame was wanted and others were left out. Pictures in front of a first key
    /// sample that cannot be decoded without what came before are left out by all decoders, so there only key samples count.
    fn lost(&mut self, now: Option<i64>) {
        let all = self.hardware.is_some();
        if !all && self.wanted.is_none() {
            return;
        }
        let last = self.ledger.last_shown();
        let missing = |p: &Entry| {
            let held_to = !p.spared && (all || p.wanted);
            let behind = last.map_or(p.key || now.is_none(), |last| p.pts.is_some_and(|pts| last < pts));
            held_to && !p.hidden && !p.discard && behind && p.pts.is_some_and(|pts| now.is_none_or(|now| pts < now))
        };
        if self.ledger.inside().any(missing) {
            let text =
                if all { "the hardware decoder gave no picture for a packet" } else { "a wanted frame did not come" };
            self.fault(text);
        }
    }

    /// Gives the decoder one more packet, or the end; or spares it one.
    fn feed(&mut self) -> Result<()> {
        let next = self.cursor.map(|cursor| cursor - usize::from(self.waiting));
        self.stopped = next.zip(self.stop).is_some_and(|(next, stop)| next > stop);
        if self.stopped || !self.fetch()? {
            self.drain();
            return Ok(());
        }
        if self.options.keyframes_only && self.packet.pts().is_none() {
            (self.untimed, self.ended) = (true, true);
            return Ok(());
        }
        // Decoders of H.264 and HEVC tell the order of such pictures by what lies between them, which was left out.
        self.anew = self.options.keyframes_only && self.filled && !self.clean_start();
        if self.anew {
            self.drain();
            return Ok(());
        }
        self.waiting = false;
        if self.packet.encrypted() {
            return Err(Error::input(RejectKind::Encrypted, "the video stream is protected; decrypt it first"));
        }
        if self.packet.corrupt() {
            self.fault("a packet is marked as corrupt");
        }
        let wanted = self.packet_wanted();
        let spared = wanted == Some(false) && self.packet_disposable();
        self.ledger.packet(Entry {
            pts: self.packet.pts(),
            key: self.packet.key(),
            corrupt: self.packet.corrupt(),
            discard: self.packet.discard(),
            hidden: hidden::hidden(&self.facts.codec, self.packet.data()),
            wanted: wanted == Some(true),
            spared,
        });
        self.clock.packet(&mut self.packet);
        if spared {
            return Ok(());
        }
        self.counters.packets_fed += 1;
        self.filled = true;
        if let Err(error) = self.decoder.send(Some(&self.packet)) {
            self.fault(error);
        }
        Ok(())
    }

    /// Asks the decoder for all that it still holds.
    fn drain(&mut self) {
        (self.draining, self.filled) = (true, false);
        if let Err(error) = self.decoder.send(None) {
            self.fault(error);
        }
    }

    /// Reads the next packet that is to be decoded into `packet`; false at the end.
    pub(super) fn fetch(&mut self) -> Result<bool> {
        if self.waiting {
            return Ok(true);
        }
        loop {
            match self.input.read(&mut self.packet)? {
                Read::End(error) => {
                    if let Some(error) = error {
                        self.fault(format!("the container ends in disorder: {error}"));
                    }
                    self.judge_order(0);
                    return Ok(false);
                }
                // An empty packet would tell the decoder that this is the end.
                Read::Packet if self.packet.stream() != self.stream || self.packet.is_empty() => {}
                Read::Packet => {
                    self.cursor = self.cursor.map(|c| c + 1);
                    self.order.see(self.packet.pts());
                    self.judge_order(ENOUGH);
                    if self.packet.key() || !self.options.keyframes_only {
                        self.waiting = true;
                        return Ok(true);
                    }
                    self.counters.between += 1;
                }
            }
        }
    }

    /// Where key samples alone are decoded, and `enough` packets were read: their times must be those of showing.
    fn judge_order(&mut self, enough: u64) {
        let between = self.options.keyframes_only && self.counters.between > 0;
        if between && self.order.packets >= enough && !self.order.overtaken && self.reorders() {
            (self.untimed, self.ended) = (true, true);
        }
    }

    /// What the frame just received is.
    fn look(&mut self) -> Result<FrameMeta> {
        check_size(self.picture.size(), self.options.max_pixels)?;
        let PictureInfo { pts, best_effort, duration, key, corrupt, errors, interlaced, top_first, .. } =
            self.picture.info();
        self.counters.decoded += 1;
        if pts.is_some() {
            self.lost(pts);
        }
        // Without times, which packet it was can be counted but not known.
        let packet = self.ledger.picture(pts).filter(|p| p.pts.is_some());
        let (flagged, bad_packet) = packet.map_or((key, false), |p| (p.key, p.corrupt));
        if self.hardware.is_some() {
            // Reference pictures of another size do not survive in every hardware decoder.
            if *self.first_size.get_or_insert(self.picture.size()) != self.picture.size() {
                self.fault("the size of pictures changes");
            }
        }
        let corrupt = corrupt || errors != 0 || bad_packet;
        if corrupt {
            self.fault("a frame was decoded from damaged data");
        }
        let time = self.clock.frame(best_effort, duration);
        let fields = match (interlaced, top_first) {
            (false, _) => Fields::Progressive,
            (true, true) => Fields::TopFirst,
            (true, false) => Fields::BottomFirst,
        };
        let guessed = pts.is_none() || time != pts;
        Ok(FrameMeta { pts: time, guessed, keyframe: flagged, index: 0, corrupt, fields })
    }
}
