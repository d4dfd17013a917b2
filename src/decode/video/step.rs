//! Feeding the decoder and taking its frames.

use super::*;

impl VideoReader {
    /// The decoder's next frame, whatever a lead-in makes of it; `None` at the end.
    pub(super) fn decode(&mut self) -> Result<Option<FrameMeta>> {
        self.current = None;
        let mut failures = 0;
        while !self.ended {
            match self.decoder.receive(&mut self.picture) {
                Receive::Picture => return self.look().map(Some),
                Receive::End => self.ended = true,
                Receive::Hungry if self.draining => self.ended = true,
                Receive::Hungry => {
                    self.feed()?;
                    failures = 0;
                }
                Receive::Failed(error) => {
                    self.fault(error);
                    failures += 1;
                    // A decoder that neither takes nor gives must not hang the run.
                    self.ended = failures == PATIENCE;
                }
            }
        }
        Ok(None)
    }

    /// Gives the decoder one more packet, or the end.
    fn feed(&mut self) -> Result<()> {
        if !self.fetch()? {
            self.draining = true;
            if let Err(error) = self.decoder.send(None) {
                self.fault(error);
            }
            return Ok(());
        }
        self.waiting = false;
        if self.packet.encrypted() {
            return Err(Error::input(RejectKind::Encrypted, "the video stream is protected; decrypt it first"));
        }
        if self.packet.corrupt() {
            self.fault("a packet is marked as corrupt");
        }
        self.inside.push_back((self.packet.pts(), self.packet.key(), self.packet.corrupt()));
        if self.inside.len() > 256 {
            self.inside.pop_front();
        }
        self.clock.packet(&mut self.packet);
        self.counters.packets_fed += 1;
        if let Err(error) = self.decoder.send(Some(&self.packet)) {
            self.fault(error);
        }
        Ok(())
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
                    return Ok(false);
                }
                // An empty packet would tell the decoder that this is the end.
                Read::Packet if self.packet.stream() != self.stream || self.packet.is_empty() => {}
                Read::Packet => {
                    self.cursor = self.cursor.map(|c| c + 1);
                    if self.packet.key() || !self.options.keyframes_only {
                        self.waiting = true;
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// What the frame just received is.
    fn look(&mut self) -> Result<FrameMeta> {
        check_size(self.picture.size(), self.options.max_pixels)?;
        let PictureInfo { pts, best_effort, duration, key, corrupt, errors, .. } = self.picture.info();
        self.counters.decoded += 1;
        let packet = self.inside.iter().position(|p| p.0 == pts).and_then(|i| self.inside.remove(i));
        // Without times, which packet it was can be counted but not known.
        let packet = packet.filter(|p| p.0.is_some());
        let (flagged, bad_packet) = packet.map_or((key, false), |p| (p.1, p.2));
        let corrupt = corrupt || errors != 0 || bad_packet;
        if corrupt {
            self.fault("a frame was decoded from damaged data");
        }
        let time = self.clock.frame(best_effort, duration);
        Ok(FrameMeta { pts: time, guessed: pts.is_none() || time != pts, keyframe: flagged, index: 0, corrupt })
    }
}
