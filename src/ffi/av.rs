//! FFmpeg: demuxing and decoding behind safe types.
//!
//! Promises: all bytes come from one [`ByteSource`]; no demuxer of the allowed ones can open anything else, and what
//! tries is refused; nothing is printed; numbers read from files are never made into Rust enums. Every handle has one
//! owner and is released by `Drop`.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffmpeg_next::ffi::*;
use rustix::io::Errno;

use crate::bytes::ByteSource;
use crate::error::{Error, RejectKind, Result};

/// Reads an enum field of a C struct, given by reference, as a number: files can put values there that the Rust enum
/// does not have.
macro_rules! raw {
    ($object:expr, $field:ident) => {{
        let field = std::ptr::addr_of!($object.$field).cast::<i32>();
        // SAFETY: the field is a four-byte C enum of a live struct, and any four bytes are an i32.
        unsafe { field.read() }
    }};
}

/// Versions of the FFmpeg libraries that this process runs with, as `libavcodec 59.37.100`.
pub fn versions() -> Vec<String> {
    // SAFETY: pure functions of the loaded libraries.
    let numbers = unsafe { [("libavcodec", avcodec_version()), ("libavformat", avformat_version())] };
    numbers.map(|(name, v)| format!("{name} {}.{}.{}", v >> 16, (v >> 8) & 255, v & 255)).to_vec()
}

mod hw;
mod io;
mod log;
mod picture;
mod renew;

pub use hw::{HwDevice, OnCuda, nvdec_tells_damage};

use io::Io;
use log::Listener;
pub use picture::{Component, Layout, Look, Picture, PictureInfo};
use renew::Parameters;

/// Demuxers that read one file and name no other. Playlists, scripts, image sequences and network protocols are left
/// out; MP4's references to other files are switched off besides.
const DEMUXERS: [&str; 35] = [
    "mov",
    "mp4",
    "m4a",
    "3gp",
    "3g2",
    "mj2",
    "matroska",
    "webm",
    "avi",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "flv",
    "mxf",
    "ogg",
    "asf",
    "nut",
    "ivf",
    "h261",
    "h263",
    "h264",
    "hevc",
    "av1",
    "obu",
    "m4v",
    "vc1",
    "yuv4mpegpipe",
    "gif",
    "apng",
    "rm",
    "wtv",
    "dv",
    "gxf",
    "dirac",
    "mjpeg",
];

/// Formats that name other files or addresses.
const NAMES_OTHERS: [&str; 13] = [
    "hls",
    "applehttp",
    "dash",
    "concat",
    "concatf",
    "imf",
    "sdp",
    "rtsp",
    "rtp",
    "webm_dash_manifest",
    "image2",
    "image2pipe",
    "ffmetadata",
];

/// Formats of sound alone.
const SOUND: [&str; 22] = [
    "mp3", "wav", "flac", "aac", "ac3", "eac3", "aiff", "caf", "amr", "ape", "au", "tta", "wv", "w64", "dts", "truehd",
    "dsf", "mpc", "mpc8", "tak", "loas", "voc",
];

/// Text for an FFmpeg error code.
pub fn describe(code: i32) -> String {
    let mut text = [0 as c_char; 128];
    // SAFETY: writes a terminated string of at most the given length.
    unsafe {
        av_strerror(code, text.as_mut_ptr(), text.len());
        name(text.as_ptr())
    }
}

/// A C string's text; "unknown" for null.
///
/// # Safety
/// `text` is null or a terminated string.
unsafe fn name(text: *const c_char) -> String {
    if text.is_null() {
        return "unknown".into();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A time stamp, or none.
fn stamp(value: i64) -> Option<i64> {
    (value != AV_NOPTS_VALUE).then_some(value)
}

fn ratio(r: AVRational) -> Option<(i32, i32)> {
    (r.num > 0 && r.den > 0).then_some((r.num, r.den))
}

/// Reads a display matrix from raw side data.
///
/// # Safety
/// `data` is null or has `size` bytes.
unsafe fn display_matrix(data: *const u8, size: usize) -> Option<[i32; 9]> {
    if data.is_null() || size < 36 {
        return None;
    }
    // SAFETY: the caller's promise and the check above; unaligned, as raw bytes may be.
    Some(unsafe { data.cast::<[i32; 9]>().read_unaligned() })
}

/// An open container.
pub struct Input {
    context: *mut AVFormatContext,
    io: Io,
    /// Files that a demuxer tried to open.
    refused: Box<AtomicU64>,
    listener: Listener,
}

// SAFETY: the context, its reader and the counter are owned by this alone and FFmpeg keeps no thread-local state; a
// `ByteSource` is `Send + Sync`. There is no access through `&Input` that writes.
unsafe impl Send for Input {}

/// One stream of a container.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Index in the container.
    pub index: usize,
    /// Holds pictures.
    pub video: bool,
    /// Is a cover picture.
    pub attached: bool,
    /// Name of the codec.
    pub codec: String,
    /// Name of the pixel format.
    pub pixel_format: String,
    /// Picture size.
    pub size: (u32, u32),
    /// FFmpeg's number of the codec's profile.
    pub profile: i32,
    /// Seconds a tick.
    pub time_base: (i32, i32),
    /// First presentation time in ticks.
    pub start: Option<i64>,
    /// Duration in ticks.
    pub duration: Option<i64>,
    /// Number of frames as the container counts them.
    pub frames: Option<u64>,
    /// Average frame rate.
    pub rate: Option<(i32, i32)>,
    /// Bits a second.
    pub bit_rate: Option<u64>,
    /// Colour, aspect and orientation.
    pub look: Look,
    /// Sample aspect ratio as the container states it.
    pub stated_aspect: Option<(i32, i32)>,
    /// Its content is protected.
    pub encrypted: bool,
    /// Its Dolby Vision configuration: profile, and what its base layer is compatible with (0: nothing).
    pub dolby_vision: Option<(u8, u8)>,
    /// Its `creation_time`.
    pub created: Option<String>,
    /// Codec configuration (`avcC`, `hvcC`, parameter sets ...).
    pub extradata: Vec<u8>,
}

/// What [`Input::read`] met.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A packet.
    Packet,
    /// The end; with FFmpeg's error where it was not the orderly one.
    End(Option<String>),
}

/// Refuses to open anything; counts the attempts.
unsafe extern "C" fn refuse(
    context: *mut AVFormatContext,
    _pb: *mut *mut AVIOContext,
    _url: *const c_char,
    _flags: c_int,
    _options: *mut *mut AVDictionary,
) -> c_int {
    // SAFETY: `opaque` is null or the counter of the `Input` that owns this context.
    if let Some(refused) = unsafe { (*context).opaque.cast::<AtomicU64>().as_ref() } {
        refused.fetch_add(1, Ordering::Relaxed);
    }
    AVERROR(Errno::ACCESS.raw_os_error())
}

/// An `AVDictionary` of options.
struct Options(*mut AVDictionary);

impl Options {
    fn new(entries: &[(&CStr, &CStr)]) -> Options {
        let mut options = Options(ptr::null_mut());
        for (key, value) in entries {
            // SAFETY: copies both strings. Failure (out of memory) leaves an entry out; `open` checks what matters.
            unsafe { av_dict_set(&mut options.0, key.as_ptr(), value.as_ptr(), 0) };
        }
        options
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: owned by this.
        unsafe { av_dict_free(&mut self.0) }
    }
}

/// The value of `key` in a dictionary.
///
/// # Safety
/// `dictionary` is null or valid.
unsafe fn entry(dictionary: *const AVDictionary, key: &CStr) -> Option<String> {
    // SAFETY: the caller's promise; the entry lives as long as the dictionary and is copied.
    unsafe {
        let found = av_dict_get(dictionary, key.as_ptr(), ptr::null(), 0);
        found.as_ref().map(|e| name(e.value))
    }
}

impl Input {
    /// Recognises the container by its content, opens it and looks at its streams. Decoders that have to look at
    /// pictures for that take none of more than `max_pixels`.
    pub fn open(source: Arc<dyn ByteSource>, max_pixels: u64) -> Result<Input> {
        let mut input = Self::header(source)?;
        input.look_at_streams(max_pixels)?;
        Ok(input)
    }

    /// The same without a look at packets: of its streams it knows what the container's header says.
    pub fn header(source: Arc<dyn ByteSource>) -> Result<Input> {
        log::capture();
        if source.is_empty() {
            return Err(Error::input(RejectKind::Empty, "the file has no bytes"));
        }
        let mut io = Io::new(source)?;
        let format = probe(&mut io)?;
        let refused = Box::new(AtomicU64::new(0));
        let listener = Listener::of(ptr::from_ref(&*refused).addr());
        // SAFETY: plain allocation. On failure avformat_open_input frees the context (but not our reader) and nulls it.
        let context = unsafe {
            let mut context = avformat_alloc_context();
            let Some(c) = context.as_mut() else {
                return Err(Error::bug("FFmpeg could not allocate a demuxer; is the machine out of memory?"));
            };
            c.pb = io.context();
            c.flags |= AVFMT_FLAG_CUSTOM_IO as c_int;
            c.io_open = Some(refuse);
            c.opaque = ptr::from_ref(&*refused).cast_mut().cast();
            let mut options = Options::new(&[
                (c"protocol_whitelist", c"none"),
                (c"enable_drefs", c"0"),
                (c"use_absolute_path", c"0"),
                (c"scan_all_pmts", c"1"),
            ]);
            let code = avformat_open_input(&mut context, ptr::null(), format, &mut options.0);
            if code < 0 {
                let failure = io.take_failure();
                return Err(unreadable(code, failure, &name((*format).name)));
            }
            context
        };
        Ok(Input { context, io, refused, listener })
    }

    fn look_at_streams(&mut self, max_pixels: u64) -> Result<()> {
        let limit = CString::new(max_pixels.min(i64::MAX as u64).to_string()).unwrap_or_default();
        let mut options: Vec<Options> =
            (0..self.count()).map(|_| Options::new(&[(c"max_pixels", limit.as_c_str())])).collect();
        let mut raw: Vec<*mut AVDictionary> = options.iter().map(|o| o.0).collect();
        // SAFETY: one dictionary for each stream there is now, as the function demands; it may replace their pointers,
        // which are therefore taken back before they are freed.
        let code = unsafe { avformat_find_stream_info(self.context, raw.as_mut_ptr()) };
        for (owner, now) in options.iter_mut().zip(raw) {
            owner.0 = now;
        }
        if let Some(failure) = self.io.take_failure() {
            return Err(Error::input(RejectKind::Io, format!("reading failed: {failure}")));
        }
        if code < 0 && self.count() == 0 {
            return Err(unreadable(code, None, &self.container()));
        }
        Ok(())
    }

    fn get(&self) -> &AVFormatContext {
        // SAFETY: non-null since `open`, owned by this.
        unsafe { &*self.context }
    }

    fn count(&self) -> usize {
        self.get().nb_streams as usize
    }

    /// A stream's structure; `index` must be below `count`.
    fn stream(&self, index: usize) -> &AVStream {
        assert!(index < self.count(), "stream {index} of {}", self.count());
        // SAFETY: `streams` has `nb_streams` valid pointers.
        unsafe { &**self.get().streams.add(index) }
    }

    /// FFmpeg's short name of the container.
    pub fn container(&self) -> String {
        // SAFETY: an open context has a demuxer, whose name is a static string.
        unsafe { name((*self.get().iformat).name) }
    }

    /// Duration in seconds as the container states or FFmpeg estimates it.
    pub fn duration(&self) -> Option<f64> {
        stamp(self.get().duration).filter(|&d| d >= 0).map(|d| d as f64 / f64::from(AV_TIME_BASE))
    }

    /// Bits a second of the whole file.
    pub fn bit_rate(&self) -> Option<u64> {
        u64::try_from(self.get().bit_rate).ok().filter(|&r| r > 0)
    }

    /// The container's `creation_time`.
    pub fn created(&self) -> Option<String> {
        // SAFETY: the dictionary belongs to the context.
        unsafe { entry(self.get().metadata, c"creation_time") }
    }

    /// How many times a demuxer tried to open another file, in vain.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// All streams found so far.
    pub fn streams(&self) -> Vec<Stream> {
        (0..self.count()).map(|i| self.describe_stream(i)).collect()
    }

    fn describe_stream(&self, index: usize) -> Stream {
        let s = self.stream(index);
        // SAFETY: every stream has parameters.
        let p = unsafe { &*s.codecpar };
        let video = raw!(p, codec_type) == AVMediaType::AVMEDIA_TYPE_VIDEO as i32;
        let extradata = match usize::try_from(p.extradata_size) {
            // SAFETY: extradata has that many bytes; they are copied.
            Ok(n) if !p.extradata.is_null() => unsafe { std::slice::from_raw_parts(p.extradata, n) }.to_vec(),
            _ => Vec::new(),
        };
        let aspect = ratio(s.sample_aspect_ratio).or(ratio(p.sample_aspect_ratio)).unwrap_or((0, 1));
        Stream {
            index,
            video,
            attached: s.disposition & AV_DISPOSITION_ATTACHED_PIC as c_int != 0,
            codec: codec_name(raw!(p, codec_id)),
            pixel_format: match video {
                true if transparent(s).is_some() => "yuva420p".into(),
                true => picture::format_name(p.format),
                false => String::new(),
            },
            size: (p.width.max(0) as u32, p.height.max(0) as u32),
            profile: p.profile,
            time_base: (s.time_base.num, s.time_base.den),
            start: stamp(s.start_time),
            duration: stamp(s.duration).filter(|&d| d > 0),
            frames: u64::try_from(s.nb_frames).ok().filter(|&n| n > 0),
            rate: ratio(s.avg_frame_rate),
            bit_rate: u64::try_from(p.bit_rate).ok().filter(|&r| r > 0),
            look: Look {
                matrix: raw!(p, color_space),
                range: raw!(p, color_range),
                primaries: raw!(p, color_primaries),
                transfer: raw!(p, color_trc),
                siting: raw!(p, chroma_location),
                aspect,
                display: self.stream_display(s),
            },
            stated_aspect: ratio(s.sample_aspect_ratio),
            encrypted: self.stream_encrypted(s, p.codec_tag),
            dolby_vision: self.stream_dolby_vision(s),
            // SAFETY: the dictionary belongs to the stream.
            created: unsafe { entry(s.metadata, c"creation_time") },
            extradata,
        }
    }

    fn stream_display(&self, s: &AVStream) -> Option<[i32; 9]> {
        let mut size = Default::default();
        // SAFETY: the data belongs to the stream and has `size` bytes.
        unsafe {
            let data = av_stream_get_side_data(s, AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX, &mut size);
            display_matrix(data, size)
        }
    }

    fn stream_dolby_vision(&self, s: &AVStream) -> Option<(u8, u8)> {
        let mut size = Default::default();
        // SAFETY: the data belongs to the stream and has `size` bytes.
        let record = unsafe {
            let data = av_stream_get_side_data(s, AVPacketSideDataType::AV_PKT_DATA_DOVI_CONF, &mut size);
            if data.is_null() {
                return None;
            }
            std::slice::from_raw_parts(data, size)
        };
        // AVDOVIDecoderConfigurationRecord (libavutil/dovi_meta.h) begins with version (two), profile, level, three flags and
        // the base layer's compatibility, a byte each.
        Some((*record.get(2)?, *record.get(7)?))
    }

    fn stream_encrypted(&self, s: &AVStream, tag: u32) -> bool {
        // SAFETY: only asks whether there is such data.
        let init = unsafe {
            av_stream_get_side_data(s, AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INIT_INFO, ptr::null_mut())
        };
        !init.is_null() || tag == u32::from_le_bytes(*b"encv")
    }

    /// Lets only stream `index` through, and all of it: where the MP4 demuxer is to leave out what is no key sample, it
    /// gives the others wrong times.
    pub fn select(&mut self, index: usize) {
        for i in 0..self.count() {
            let discard = if i == index { AVDiscard::AVDISCARD_DEFAULT } else { AVDiscard::AVDISCARD_ALL };
            // SAFETY: `i` is below the number of streams; the context is ours alone (`&mut self`).
            unsafe { (**(*self.context).streams.add(i)).discard = discard };
        }
    }

    /// The next packet of any stream that is let through.
    pub fn read(&mut self, packet: &mut Packet) -> Result<Read> {
        // A demuxer may ask to be called again; one that does so for ever must not hang the run.
        let mut patience = 10_000;
        loop {
            // SAFETY: both are valid and ours; the packet is emptied first, as av_read_frame expects.
            let code = unsafe {
                av_packet_unref(packet.0);
                av_read_frame(self.context, packet.0)
            };
            if let Some(failure) = self.io.take_failure() {
                return Err(Error::input(RejectKind::Io, format!("reading failed: {failure}")));
            }
            if code >= 0 {
                return Ok(Read::Packet);
            }
            patience -= 1;
            if code != AVERROR(Errno::AGAIN.raw_os_error()) || patience == 0 {
                let error = (code != AVERROR_EOF).then(|| describe(code));
                return Ok(Read::End(error.or(self.listener.heard().1)));
            }
        }
    }

    /// Goes to the last key sample of `stream` at or before `stamp` (in the demuxer's order: presentation or decoding
    /// time, as its index has it); false where it cannot.
    pub fn seek(&mut self, stream: usize, stamp: i64) -> Result<bool> {
        // SAFETY: a valid context; a stream index out of range is refused by FFmpeg's own check.
        let code = unsafe { av_seek_frame(self.context, stream as c_int, stamp, AVSEEK_FLAG_BACKWARD as c_int) };
        match self.io.take_failure() {
            Some(failure) => Err(Error::input(RejectKind::Io, format!("reading failed: {failure}"))),
            None => Ok(code >= 0),
        }
    }

    /// From now on gives the packets of the selected `stream` as the container has them, but with a meaningless byte for
    /// content, without reading the source: only sound where the container's whole sample table has been read and no packet
    /// was read yet.
    pub fn blank(&mut self, stream: usize) {
        // Parsers would look into packets, and times would be mended by what they see.
        // SAFETY: a valid context that is ours.
        unsafe { (*self.context).flags |= (AVFMT_FLAG_NOPARSE | AVFMT_FLAG_NOFILLIN) as c_int };
        if stream < self.count() {
            // SAFETY: the index is an array of the stream's, which is ours alone here (`&mut self`); entries below the count
            // exist. FFmpeg gives them as const, but they lie in memory that it allocated for writing.
            unsafe {
                let stream = *(*self.context).streams.add(stream);
                for i in 0..avformat_index_get_entries_count(stream) {
                    let entry = avformat_index_get_entry(stream, i).cast_mut();
                    // What is empty stays so.
                    if !entry.is_null() && (*entry).size() > 1 {
                        (*entry).set_size(1);
                    }
                }
            }
        }
        self.io.set_blank(true);
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // SAFETY: frees the context and nulls it; the reader, which is ours, is released after it.
        unsafe { avformat_close_input(&mut self.context) }
    }
}

/// Finds the demuxer by content alone and refuses those that are not allowed.
fn probe(io: &mut Io) -> Result<*const AVInputFormat> {
    let mut format: *const AVInputFormat = ptr::null();
    // SAFETY: reads through `io` and gives a static structure; no name is given, so no file name ending counts.
    let code = unsafe { av_probe_input_buffer2(io.context(), &mut format, ptr::null(), ptr::null_mut(), 0, 0) };
    if let Some(failure) = io.take_failure() {
        return Err(Error::input(RejectKind::Io, format!("reading failed: {failure}")));
    }
    if code < 0 || format.is_null() {
        return Err(Error::input(RejectKind::NotMedia, "the content is no video container that FFmpeg recognises"));
    }
    // SAFETY: names of a static structure.
    let (short, long) = unsafe { (name((*format).name), name((*format).long_name)) };
    let is = |list: &[&str]| short.split(',').any(|n| list.contains(&n));
    if is(&DEMUXERS) {
        Ok(format)
    } else if is(&NAMES_OTHERS) {
        let text = format!("the content is {long} ({short}), which names other files; give those files themselves");
        Err(Error::input(RejectKind::Unsupported, text))
    } else if is(&SOUND) {
        Err(Error::input(RejectKind::NoVideo, format!("the content is sound alone ({short})")))
    } else {
        Err(Error::input(
            RejectKind::NotMedia,
            format!("the content is {long} ({short}), no supported video container"),
        ))
    }
}

/// The error of a container that could not be opened.
fn unreadable(code: i32, failure: Option<String>, container: &str) -> Error {
    if let Some(failure) = failure {
        return Error::input(RejectKind::Io, format!("reading failed: {failure}"));
    }
    let kind = match code {
        AVERROR_PATCHWELCOME => RejectKind::Unsupported,
        _ => RejectKind::Corrupt,
    };
    Error::input(kind, format!("the {container} container cannot be opened: {}", describe(code)))
}

/// FFmpeg's name of a codec number.
fn codec_name(id: i32) -> String {
    let mut at: *const AVCodecDescriptor = ptr::null();
    loop {
        // SAFETY: walks FFmpeg's static table from null to null; its entries live for ever.
        let Some(codec) = (unsafe {
            at = avcodec_descriptor_next(at);
            at.as_ref()
        }) else {
            return "unknown".into();
        };
        if raw!(codec, id) == id {
            // SAFETY: names are static strings.
            return unsafe { name(codec.name) };
        }
    }
}

/// One packet.
pub struct Packet(*mut AVPacket);

// SAFETY: owned by this alone; its buffers are reference-counted atomically and not written to.
unsafe impl Send for Packet {}

impl Packet {
    /// An empty packet.
    pub fn new() -> Result<Packet> {
        // SAFETY: plain allocation.
        let packet = unsafe { av_packet_alloc() };
        if packet.is_null() {
            return Err(Error::bug("FFmpeg could not allocate a packet; is the machine out of memory?"));
        }
        Ok(Packet(packet))
    }

    fn get(&self) -> &AVPacket {
        // SAFETY: non-null since `new`, owned by this.
        unsafe { &*self.0 }
    }

    /// Index of its stream.
    pub fn stream(&self) -> usize {
        usize::try_from(self.get().stream_index).unwrap_or(usize::MAX)
    }
    /// Presentation time.
    pub fn pts(&self) -> Option<i64> {
        stamp(self.get().pts)
    }
    /// Decoding time.
    pub fn dts(&self) -> Option<i64> {
        stamp(self.get().dts)
    }
    /// Duration in ticks, 0 where unknown.
    pub fn duration(&self) -> i64 {
        self.get().duration
    }
    /// Byte position in the file, negative where unknown.
    pub fn position(&self) -> i64 {
        self.get().pos
    }
    /// The container calls it a key sample.
    pub fn key(&self) -> bool {
        self.has(AV_PKT_FLAG_KEY)
    }
    /// The demuxer found damage.
    pub fn corrupt(&self) -> bool {
        self.has(AV_PKT_FLAG_CORRUPT)
    }
    /// Is decoded only for others' sake (before an edit list's start).
    pub fn discard(&self) -> bool {
        self.has(AV_PKT_FLAG_DISCARD)
    }
    fn has(&self, flag: impl TryInto<c_int>) -> bool {
        flag.try_into().is_ok_and(|flag| self.get().flags & flag != 0)
    }
    /// Has no bytes.
    pub fn is_empty(&self) -> bool {
        self.get().size <= 0
    }
    /// Is encrypted.
    pub fn encrypted(&self) -> bool {
        // SAFETY: only asks whether there is such data.
        let info = unsafe {
            av_packet_get_side_data(self.0, AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO, ptr::null_mut())
        };
        !info.is_null()
    }
    /// Sets the decoding time.
    pub fn set_dts(&mut self, dts: i64) {
        // SAFETY: owned by this alone.
        unsafe { (*self.0).dts = dts }
    }
    /// Its bytes.
    pub fn data(&self) -> &[u8] {
        let p = self.get();
        match usize::try_from(p.size) {
            // SAFETY: a packet has `size` bytes at `data`.
            Ok(n) if !p.data.is_null() => unsafe { std::slice::from_raw_parts(p.data, n) },
            _ => &[],
        }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: owned by this.
        unsafe { av_packet_free(&mut self.0) }
    }
}

/// How to decode.
#[derive(Debug, Clone, Copy)]
pub struct DecoderOptions<'a> {
    /// Threads, at least one.
    pub threads: usize,
    /// Largest picture.
    pub max_pixels: u64,
    /// One fixed way of hiding damage, whatever FFmpeg's default.
    pub concealment_fixed: bool,
    /// Decode on this device, with one thread; never in software then.
    pub device: Option<&'a HwDevice>,
}

/// What [`Decoder::receive`] met.
#[derive(Debug, PartialEq, Eq)]
pub enum Receive {
    /// A picture.
    Picture,
    /// It wants another packet.
    Hungry,
    /// All pictures have been given.
    End,
    /// Decoding failed.
    Failed(String),
}

/// A decoder.
pub struct Decoder {
    context: *mut AVCodecContext,
    listener: Listener,
    parameters: Parameters,
    /// It knows the parameters' extradata.
    reminded: bool,
}

// SAFETY: the context is owned by this alone; its own threads are FFmpeg's affair, and it is not bound to the thread
// that made it.
unsafe impl Send for Decoder {}

/// The first decoder for a codec number that is not experimental (an experimental one if there is no other); of those
/// that can use `device`, where there is one.
fn find_decoder(id: i32, device: Option<&HwDevice>) -> Option<&'static AVCodec> {
    let (mut state, mut experimental) = (ptr::null_mut(), None);
    loop {
        // SAFETY: walks FFmpeg's static list until null; its entries live for ever.
        let Some(codec) = (unsafe { av_codec_iterate(&mut state).as_ref() }) else { return experimental };
        // SAFETY: a valid codec.
        let decodes = unsafe { av_codec_is_decoder(codec) } != 0;
        if !decodes || raw!(codec, id) != id || device.is_some_and(|d| d.format_of(codec).is_none()) {
            continue;
        }
        if codec.capabilities & AV_CODEC_CAP_EXPERIMENTAL as c_int == 0 {
            return Some(codec);
        }
        experimental.get_or_insert(codec);
    }
}

/// The decoder that gives a VP8 or VP9 stream its transparency, where the container says that it has one: FFmpeg's own
/// leave it out in silence.
fn transparent(s: &AVStream) -> Option<&'static CStr> {
    // SAFETY: every stream has parameters; the dictionary belongs to the stream.
    let (parameters, said) = unsafe { (&*s.codecpar, entry(s.metadata, c"alpha_mode")) };
    let id = raw!(parameters, codec_id);
    let name = match codec_name(id).as_str() {
        "vp8" => c"libvpx",
        "vp9" => c"libvpx-vp9",
        _ => return None,
    };
    said.filter(|said| said == "1").map(|_| name)
}

/// The decoder of that name.
fn decoder_named(name: &CStr) -> Option<&'static AVCodec> {
    // SAFETY: looks a terminated name up in FFmpeg's static list, whose entries live for ever.
    unsafe { avcodec_find_decoder_by_name(name.as_ptr()).as_ref() }
}

impl Decoder {
    /// Opens the decoder of `stream`.
    pub fn open(input: &Input, stream: usize, options: &DecoderOptions) -> Result<Decoder> {
        let s = input.stream(stream);
        // SAFETY: every stream has parameters.
        let parameters = unsafe { &*s.codecpar };
        let id = raw!(parameters, codec_id);
        let (codec, lacking) = match transparent(s) {
            Some(name) => (decoder_named(name), " with transparency (libvpx)"),
            None => (find_decoder(id, options.device), ""),
        };
        let Some(codec) = codec else {
            let text = format!("this FFmpeg has no decoder for the codec {}{lacking}", codec_name(id));
            return Err(Error::input(RejectKind::Unsupported, text));
        };
        // SAFETY: plain allocation.
        let context = unsafe { avcodec_alloc_context3(codec) };
        if context.is_null() {
            return Err(Error::bug("FFmpeg could not allocate a decoder; is the machine out of memory?"));
        }
        let copy = Parameters::copy(parameters)?;
        let decoder = Decoder { context, listener: Listener::new(), parameters: copy, reminded: true };
        let threads = if options.device.is_some() { 1 } else { options.threads.clamp(1, 64) as c_int };
        if let Some(device) = options.device {
            // SAFETY: the context is ours and not open yet.
            let attached = device.attach(unsafe { &mut *decoder.context });
            attached.map_err(|e| Error::input(RejectKind::DeviceUnsupported, e))?;
        }
        // SAFETY: the context is ours and not open yet, so its fields may be set; the parameters are the stream's.
        let code = unsafe {
            let c = &mut *decoder.context;
            match avcodec_parameters_to_context(c, parameters) {
                code if code < 0 => code,
                _ => {
                    c.opaque = decoder.listener.opaque();
                    c.pkt_timebase = s.time_base;
                    c.framerate = s.avg_frame_rate;
                    c.thread_count = threads;
                    c.thread_type = (FF_THREAD_FRAME | FF_THREAD_SLICE) as c_int;
                    // Unaligned: a crop window is applied to the column, not to the next aligned one.
                    c.flags |= (AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_UNALIGNED) as c_int;
                    c.idct_algo = FF_IDCT_SIMPLE as c_int;
                    c.max_pixels = i64::try_from(options.max_pixels).unwrap_or(i64::MAX);
                    if options.concealment_fixed {
                        c.error_concealment = (FF_EC_GUESS_MVS | FF_EC_DEBLOCK) as c_int;
                    }
                    avcodec_open2(c, codec, ptr::null_mut())
                }
            }
        };
        if code < 0 {
            let text = format!("the {} decoder does not open: {}", codec_name(id), describe(code));
            return Err(Error::input(RejectKind::Unsupported, text));
        }
        Ok(decoder)
    }

    /// FFmpeg's name of the decoder (`h264`, `libdav1d`, ...).
    pub fn name(&self) -> String {
        // SAFETY: an open context has a codec with a static name.
        unsafe { name((*(*self.context).codec).name) }
    }

    /// How the stream's samples would lie in host memory; of a decoder on a device known from its first picture on.
    pub fn host_layout(&self) -> Option<Layout> {
        // SAFETY: a valid context.
        picture::layout(raw!(unsafe { &*self.context }, sw_pix_fmt))
    }

    /// Gives it a packet, or with `None` the end. Err: decoding failed; the packet is used up all the same.
    pub fn send(&mut self, packet: Option<&Packet>) -> std::result::Result<(), String> {
        let reminder = packet.map(|packet| self.reminder(packet)).transpose()?.flatten();
        let packet = reminder.as_ref().or(packet);
        // SAFETY: both are valid; the decoder takes its own reference.
        let code = unsafe { avcodec_send_packet(self.context, packet.map_or(ptr::null(), |p| p.0)) };
        if code >= 0 || code == AVERROR_EOF { Ok(()) } else { Err(describe(code)) }
    }

    /// Takes the next picture.
    pub fn receive(&mut self, picture: &mut Picture) -> Receive {
        // SAFETY: both are valid and ours; the frame is emptied first.
        match unsafe { avcodec_receive_frame(self.context, picture.as_mut_ptr()) } {
            code if code >= 0 => Receive::Picture,
            AVERROR_EOF => Receive::End,
            code if code == AVERROR(Errno::AGAIN.raw_os_error()) => Receive::Hungry,
            code => Receive::Failed(describe(code)),
        }
    }

    /// Forgets everything it was given, for a seek.
    pub fn flush(&mut self) {
        // SAFETY: a valid open context.
        unsafe { avcodec_flush_buffers(self.context) }
    }

    /// Frames by which it lets decoding run ahead to put pictures in order.
    #[expect(clippy::misnamed_getters, reason = "FFmpeg calls the reorder delay has_b_frames")]
    pub fn delay(&self) -> i32 {
        // SAFETY: a valid context.
        unsafe { (*self.context).has_b_frames }
    }

    /// Ticks that FFmpeg's program would add to a decoding time that is missing: one frame, in seconds.
    pub fn frame_rate(&self) -> Option<(i32, i32)> {
        // SAFETY: a valid context.
        ratio(unsafe { (*self.context).framerate })
    }

    /// Errors that it complained of since [`forget`](Self::forget): how many, and the first.
    pub fn complaints(&self) -> (u64, Option<String>) {
        self.listener.heard()
    }

    /// Forgets complaints.
    pub fn forget(&self) {
        self.listener.forget();
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: owned by this; ends its threads before the listener goes.
        unsafe { avcodec_free_context(&mut self.context) }
    }
}
