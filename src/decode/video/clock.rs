//! [`Clock`]: time stamps where the file lacks them, guessed as FFmpeg's own program does, so that both agree on every
//! frame's time.

use crate::ffi::av::Packet;

/// Microseconds a second, FFmpeg's common time base.
const SECOND: i64 = 1_000_000;

/// Runs along with the packets given to a decoder and the frames it gives back; its times are in microseconds.
pub(super) struct Clock {
    time_base: (i32, i32),
    frame: Option<i64>,
    started: bool,
    lead: i64,
    dts: i64,
    next_dts: Option<i64>,
    next_pts: Option<i64>,
    step: i64,
}

impl Clock {
    /// `rate` is the stream's frame rate, `delay` the frames its decoder holds back.
    pub fn new(time_base: (i32, i32), rate: Option<(i32, i32)>, delay: i32) -> Clock {
        let frame = rate.map(|(n, d)| SECOND * i64::from(d) / i64::from(n.max(1)));
        let lead = rate.map_or(0, |(n, d)| (-f64::from(delay) * SECOND as f64 / (f64::from(n) / f64::from(d))) as i64);
        Clock { time_base, frame, started: false, lead, dts: 0, next_dts: None, next_pts: None, step: 0 }
    }

    fn micros(&self, ticks: i64) -> i64 {
        scale(ticks, i64::from(self.time_base.0) * SECOND, i64::from(self.time_base.1))
    }

    fn ticks(&self, micros: i64) -> i64 {
        scale(micros, i64::from(self.time_base.1), i64::from(self.time_base.0) * SECOND)
    }

    /// Sees a packet before it is decoded, and gives it a decoding time if it has none.
    pub fn packet(&mut self, packet: &mut Packet) {
        if !self.started {
            self.started = true;
            self.dts = self.lead;
        }
        match packet.dts() {
            Some(dts) => self.dts = self.micros(dts),
            None => {
                self.dts = self.next_dts.unwrap_or(self.dts);
                packet.set_dts(self.ticks(self.dts));
            }
        }
        let duration = if packet.duration() > 0 { Some(self.micros(packet.duration())) } else { self.frame };
        self.step = duration.unwrap_or(0);
        self.next_dts = duration.map(|d| self.dts.saturating_add(d));
    }

    /// Sees a frame's best time and duration (0 where unknown) in ticks, and gives its time: a continuation of the
    /// frames before where it has none.
    pub fn frame(&mut self, best: Option<i64>, duration: i64) -> Option<i64> {
        let time = best.or(self.next_pts.map(|p| self.ticks(p)));
        let step = if duration > 0 { self.micros(duration) } else { self.step };
        self.next_pts = best.map(|b| self.micros(b)).or(self.next_pts).map(|p| p.saturating_add(step));
        time
    }
}

/// `value * by / over`, rounded to the nearest, halves away from zero.
fn scale(value: i64, by: i64, over: i64) -> i64 {
    let over = i128::from(over.max(1));
    let product = i128::from(value) * i128::from(by);
    let rounded = (product.abs() + over / 2) / over * product.signum();
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN + 1 } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_time_follow_the_one_before() {
        let mut clock = Clock::new((1, 1000), Some((25, 1)), 0);
        assert_eq!(clock.frame(None, 0), None);
        assert_eq!(clock.frame(Some(100), 40), Some(100));
        assert_eq!(clock.frame(None, 40), Some(140));
        assert_eq!(clock.frame(None, 40), Some(180));
    }

    #[test]
    fn scaling_rounds_to_the_nearest() {
        assert_eq!((scale(7, 1, 2), scale(-7, 1, 2), scale(1, 1, 3)), (4, -4, 0));
    }
}
