//! An open decoder that goes on with another stream of its kind.

use super::*;

/// What a decoder was opened for.
pub(super) struct Parameters(*mut AVCodecParameters);

// SAFETY: owned by this alone, and plain data.
unsafe impl Send for Parameters {}

impl Parameters {
    /// A copy of a stream's.
    pub fn copy(of: &AVCodecParameters) -> Result<Parameters> {
        // SAFETY: plain allocation.
        let copy = Parameters(unsafe { avcodec_parameters_alloc() });
        // SAFETY: both are valid where the first is not null.
        if copy.0.is_null() || unsafe { avcodec_parameters_copy(copy.0, of) } < 0 {
            return Err(Error::bug("FFmpeg could not copy a stream's parameters; is the machine out of memory?"));
        }
        Ok(copy)
    }

    /// Whether a decoder could not tell the two apart when it is opened, but by what each picture is told anew.
    fn alike(&self, other: &AVCodecParameters) -> bool {
        // SAFETY: valid while this is.
        let own = unsafe { &*self.0 };
        let numbers = |p: &AVCodecParameters| {
            let sizes = [p.width, p.height, p.bits_per_coded_sample, p.bits_per_raw_sample, p.profile, p.level];
            (raw!(p, codec_id), p.codec_tag, p.format, sizes)
        };
        numbers(own) == numbers(other) && extradata(own) == extradata(other)
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        // SAFETY: owned by this.
        unsafe { avcodec_parameters_free(&mut self.0) }
    }
}

fn extradata(parameters: &AVCodecParameters) -> &[u8] {
    match usize::try_from(parameters.extradata_size) {
        // SAFETY: so many bytes are there.
        Ok(n) if !parameters.extradata.is_null() => unsafe { std::slice::from_raw_parts(parameters.extradata, n) },
        _ => &[],
    }
}

impl Decoder {
    /// Whether [`renew`](Self::renew) can make it a decoder of `stream`: its parameters are those that it was opened for,
    /// colour, aspect and side data excepted, and it has no threads of its own.
    pub fn fits(&self, input: &Input, stream: usize) -> bool {
        // SAFETY: a valid context; every stream has parameters.
        let (threads, parameters) = unsafe { ((*self.context).thread_count, &*input.stream(stream).codecpar) };
        threads == 1 && self.parameters.alike(parameters)
    }

    /// Makes it a decoder of `stream`, which it [`fits`](Self::fits), as if it had been opened for that, without opening its
    /// device's session anew; false where FFmpeg cannot, and then it is of no use any more.
    pub fn renew(&mut self, input: &Input, stream: usize) -> bool {
        let s = input.stream(stream);
        self.flush();
        self.forget();
        // SAFETY: the context is ours, open and idle; the parameters are the stream's. What the device's session hangs on,
        // the formats and sizes, is put back as it was.
        let code = unsafe {
            let c = &mut *self.context;
            let format = ptr::addr_of_mut!(c.pix_fmt).cast::<i32>();
            let kept = (format.read(), c.width, c.height, c.coded_width, c.coded_height);
            let code = avcodec_parameters_to_context(c, s.codecpar);
            format.write(kept.0);
            (c.width, c.height, c.coded_width, c.coded_height) = (kept.1, kept.2, kept.3, kept.4);
            c.pkt_timebase = s.time_base;
            c.framerate = s.avg_frame_rate;
            code
        };
        // Parameter sets within the last stream may have taken the places of those that lie beside both.
        self.reminded = false;
        code >= 0
    }

    /// A packet that brings the extradata again, where the decoder is to be reminded of it. Err: there is no memory for it.
    pub(super) fn reminder(&mut self, packet: &Packet) -> std::result::Result<Option<Packet>, String> {
        // SAFETY: valid while the decoder is.
        let extradata = extradata(unsafe { &*self.parameters.0 });
        if std::mem::replace(&mut self.reminded, true) || extradata.is_empty() {
            return Ok(None);
        }
        let full = || "no memory to remind a decoder of its parameters".to_string();
        // SAFETY: a valid packet; the copy shares its bytes.
        let copy = unsafe { av_packet_clone(packet.0) };
        if copy.is_null() {
            return Err(full());
        }
        let (copy, kind) = (Packet(copy), AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA);
        // SAFETY: the packet is ours; what comes back is null or has room for so many bytes.
        unsafe {
            let room = av_packet_new_side_data(copy.0, kind, extradata.len());
            if room.is_null() {
                return Err(full());
            }
            ptr::copy_nonoverlapping(extradata.as_ptr(), room, extradata.len());
        }
        Ok(Some(copy))
    }
}
