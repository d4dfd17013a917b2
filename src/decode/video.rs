//! [`VideoReader`]: the frames of one video stream, in presentation order, decoded in software or by hardware.
//!
//! Promises:
//! - As many frames as FFmpeg's own program gives, with its time stamps; a frame's samples are shared with the decoder,
//!   not copied, where the format allows.
//! - Seeking and jumping give the very frames that reading from the start would have given, or do not happen: only
//!   streams whose packets were all looked at and found regular are jumped in, a lead-in is decoded and thrown away, and
//!   a seek that does not show what it should steps back, at last to the beginning.
//! - Damage is never silent: every failed packet, flagged frame and complaint of a decoder is remembered. A hardware
//!   decoder is held to more: a packet without a picture and a change of size count as damage too. What a damaged reader
//!   on hardware gave is not to be used: software decodes it again.
//!
//! Everything is read through one [`ByteSource`]; see `ffi::av` for what a hostile file cannot do.

mod clock;
mod deinterlace;
mod facts;
mod hidden;
mod index;
mod info;
mod ledger;
mod nal;
mod pixels;
mod seek;
mod sessions;
mod spare;
mod step;
mod surface;

use std::sync::Arc;

use crate::bytes::ByteSource;
use crate::decode::hardware::{self, Device, Fault, Hardware};
use crate::decode::losses::Losses;
use crate::decode::route::{Demand, Facts, Route};
use crate::error::{Error, RejectKind, Result};
use crate::ffi::av::{Decoder, DecoderOptions, Input, Packet, Picture, PictureInfo, Read, Receive, Stream};
use crate::frame::{Frame, Plane};
use clock::Clock;
use index::PacketIndex;
pub use info::{VideoInfo, luma_alone};
use ledger::Ledger;
use nal::Nals;
pub use sessions::Sessions;
pub use spare::Wanted;

/// How to read a video.
#[derive(Debug, Clone)]
pub struct VideoOptions {
    /// Which video stream, counted from 0 among the container's video streams (cover pictures included); `None`: the
    /// first that is no cover picture.
    pub stream: Option<usize>,
    /// Threads of the decoder, at least 1.
    pub threads: usize,
    /// Largest picture in pixels; larger ones are an error of kind `too_large`.
    pub max_pixels: u64,
    /// Decode only what the container flags as key.
    pub keyframes_only: bool,
    /// Hide damage in one fixed way; with one thread a damaged file then decodes alike every time.
    pub concealment_fixed: bool,
    /// What decodes, where it can; [`VideoReader::route`] tells what does.
    pub decoder: Demand,
    /// Frames may stay in the memory of CUDA's first device.
    pub surfaces: bool,
    /// Which frames are deinterlaced. It needs their neighbours, which are decoded besides; software's alone, in host memory.
    pub deinterlace: Deinterlace,
    /// Where hardware's sessions come from and go to; each reader opens its own where there is none.
    pub sessions: Option<Arc<Sessions>>,
}

/// Which frames are deinterlaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deinterlace {
    /// None.
    #[default]
    Off,
    /// Those that are flagged as interlaced.
    Flagged,
    /// All.
    All,
}

/// How the lines of a frame belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// All are of one moment.
    Progressive,
    /// Two fields; the one with the top line is first.
    TopFirst,
    /// Two fields; the other one is first.
    BottomFirst,
}

impl Default for VideoOptions {
    fn default() -> Self {
        VideoOptions {
            stream: None,
            threads: 1,
            max_pixels: 178_956_970,
            keyframes_only: false,
            concealment_fixed: false,
            decoder: Demand::Software,
            surfaces: false,
            deinterlace: Deinterlace::Off,
            sessions: None,
        }
    }
}

/// What is known of a frame without converting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    /// Presentation time in ticks; `None` where neither file nor decoder gives a hint.
    pub pts: Option<i64>,
    /// The time is not the one the container gave for this frame.
    pub guessed: bool,
    /// The container flags it as key (the codec, where the container's word cannot be told).
    pub keyframe: bool,
    /// Frames this reader gave before it. Counts on through seeks and jumps; it identifies a frame only without them.
    pub index: u64,
    /// Decoded from damaged data.
    pub corrupt: bool,
    /// Its fields, as the codec flags them.
    pub fields: Fields,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were decoded or left out on purpose: those read for the decoder without the ones that it still held when
    /// it was left, which are more the more threads it has.
    pub packets: u64,
    /// All that were given to the decoder.
    pub packets_fed: u64,
    /// Frames that the decoder gave.
    pub decoded: u64,
    /// Frames whose time was guessed.
    pub guessed_pts: u64,
    /// Frames decoded from damaged data.
    pub corrupt: u64,
    /// Frames of a lead-in, decoded but not given.
    pub discarded: u64,
    /// Packets that were left out where key samples alone are decoded.
    pub between: u64,
    /// Seeks and jumps that were made.
    pub seeks: u64,
    /// Packets of those decoded that gave no picture: `packets + extra = decoded + lost`.
    pub lost: Losses,
    /// Pictures beyond one a packet.
    pub extra: u64,
}

/// The packets of a stream, if they have been looked at.
enum Indexed {
    NotYet,
    Unfit,
    Fit(PacketIndex),
}

/// What a seek still has to show.
#[derive(Debug, Clone, Copy)]
struct LeadIn {
    /// Frames before this are thrown away.
    floor: i64,
    /// What shows that the seek came early enough.
    proof: Proof,
    /// Key samples it went back beyond the needed one.
    margin: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// A frame before the floor has to be seen.
    Before,
    /// The first frame not thrown away must be the one at the floor.
    At,
    /// Shown, or begun at the start of the file.
    Given,
}

/// Reads one video stream.
pub struct VideoReader {
    source: Arc<dyn ByteSource>,
    uri: String,
    options: VideoOptions,
    stream: usize,
    info: VideoInfo,
    /// Sample aspect ratio as the container states it: it goes before the codec's, as in FFmpeg's program.
    stated_aspect: Option<(i32, i32)>,
    nals: Option<Nals>,
    facts: Facts,
    route: Route,
    /// What decodes in software's place.
    hardware: Option<Arc<Hardware>>,
    decoder: Decoder,
    input: Input,
    packet: Packet,
    picture: Picture,
    clock: Clock,
    ledger: Ledger,
    /// Size of the first picture that hardware gave.
    first_size: Option<(u32, u32)>,
    /// Pictures that the test decoder was given.
    pictures: u64,
    current: Option<FrameMeta>,
    neighbours: Neighbours,
    index: Indexed,
    /// Which frames may be wanted, where others may be left out.
    wanted: Option<Wanted>,
    /// Time of the wanted frame that is made for.
    aim: Option<i64>,
    left_out: Option<i64>,
    /// Place in decoding order of the next packet, where the packets are indexed and it is known.
    cursor: Option<usize>,
    /// A packet that was read in advance is waiting in `packet`.
    waiting: bool,
    draining: bool,
    /// The decoder was given a packet since it was last emptied.
    filled: bool,
    /// It is emptied so that the packet waiting is the first that it knows of.
    anew: bool,
    /// A key packet without a time came where key samples alone are decoded.
    untimed: bool,
    order: step::Order,
    /// Place in decoding order of the last packet that is needed before the next jump.
    stop: Option<usize>,
    /// It was reached: the decoder gives what it holds, and is to be begun elsewhere.
    stopped: bool,
    ended: bool,
    lead_in: Option<LeadIn>,
    /// Key samples are not clean starts by themselves: go back one more.
    open_gops: bool,
    counters: Counters,
    given: u64,
    faults: u64,
    first_error: Option<String>,
}

/// The pictures around the current one, where frames are deinterlaced: the reader is then one frame ahead.
#[derive(Default)]
struct Neighbours {
    before: Option<Arc<Picture>>,
    now: Option<Arc<Picture>>,
    behind: Option<(Arc<Picture>, FrameMeta)>,
}

/// A decoder may fail this often in a row without taking a packet; then it is given up.
const PATIENCE: u32 = 1000;

impl VideoReader {
    /// Opens `source`; `uri` names it in errors.
    ///
    /// # Errors
    /// Input errors of kind `empty`, `not_media`, `no_video`, `unsupported`, `corrupt`, `encrypted`, `too_large`, `io`.
    pub fn open(source: Arc<dyn ByteSource>, uri: &str, options: &VideoOptions) -> Result<VideoReader> {
        Self::open_unnamed(source, uri, options).map_err(|e| e.context(uri))
    }

    fn open_unnamed(source: Arc<dyn ByteSource>, uri: &str, options: &VideoOptions) -> Result<VideoReader> {
        let input = Input::open(source.clone(), options.max_pixels)?;
        if input.refused() > 0 {
            tracing::warn!(uri, refused = input.refused(), "the file refers to other files; none of them was opened");
        }
        let (stream, count) = choose_stream(&input.streams(), options.stream)?;
        check_size(stream.size, options.max_pixels)?;
        if stream.encrypted {
            return Err(Error::input(RejectKind::Encrypted, "the video stream is protected; decrypt it first"));
        }
        if let Some((profile, 0)) = stream.dolby_vision {
            let text = format!(
                "Dolby Vision profile {profile}: its colours mean nothing without Dolby's metadata; convert it to HDR10 or SDR first"
            );
            return Err(Error::input(RejectKind::Unsupported, text));
        }
        let facts = facts::facts(&stream, input.duration());
        let (mut route, mut hardware) = hardware::choose(&facts, options.decoder);
        let decoder = match (open_decoder(&input, stream.index, options, hardware.as_deref()), &hardware) {
            (Err(e), Some(_)) => {
                route = Route::software(format!("{} did not open: {}", route.name(), e.message));
                hardware = None;
                open_decoder(&input, stream.index, options, None)?
            }
            (opened, _) => opened?,
        };
        let info = VideoInfo::new(&input, &stream, count, decoder.name())?;
        if info.rotation % 90 != 0 {
            tracing::warn!(uri, degrees = info.rotation, "its display matrix asks for no quarter turn: not applied");
        }
        let clock = Clock::new(stream.time_base, decoder.frame_rate(), decoder.delay());
        let mut reader = VideoReader {
            source,
            uri: uri.to_string(),
            options: options.clone(),
            stream: stream.index,
            nals: Nals::new(&info.codec, &stream.extradata),
            info,
            stated_aspect: stream.stated_aspect,
            facts,
            route,
            hardware,
            input,
            decoder,
            packet: Packet::new()?,
            picture: Picture::new()?,
            clock,
            ledger: Ledger::default(),
            first_size: None,
            pictures: 0,
            current: None,
            neighbours: Neighbours::default(),
            index: Indexed::NotYet,
            wanted: None,
            aim: None,
            left_out: None,
            cursor: Some(0),
            waiting: false,
            draining: false,
            filled: false,
            anew: false,
            untimed: false,
            order: step::Order::default(),
            stop: None,
            stopped: false,
            ended: false,
            lead_in: None,
            open_gops: false,
            counters: Counters::default(),
            given: 0,
            faults: 0,
            first_error: None,
        };
        reader.input.select(stream.index);
        Ok(reader)
    }

    /// Leaves the decoder to the next file, where it is hardware's and met nothing wrong.
    pub fn retire(self) {
        if let (Some(hardware), Some(sessions), false) = (&self.hardware, &self.options.sessions, self.damaged()) {
            sessions.keep(hardware, &self.options, self.decoder);
        }
    }

    /// What the container says of the stream.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// What decodes, and why.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// What would decode if `demand` were made.
    pub fn route_of(&self, demand: Demand) -> Route {
        hardware::choose(&self.facts, demand).0
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        // One that was decoded for the sake of the frame before it.
        let discarded = self.counters.discarded + u64::from(self.neighbours.behind.is_some());
        let mut lost = self.ledger.losses();
        if self.damaged() {
            lost.damaged += std::mem::take(&mut lost.unexplained);
        }
        let (packets, extra) = (self.ledger.packets(), self.ledger.extra());
        Counters { packets, discarded, lost, extra, ..self.counters }
    }

    /// The first sign of damage.
    pub fn first_error(&self) -> Option<String> {
        self.first_error.clone().or_else(|| self.decoder.complaints().1)
    }

    /// True once anything was wrong: a packet that does not decode, a flagged packet or frame, a missing reference, an
    /// end that is not the orderly one. What such a reader gave may differ with the number of threads.
    pub fn damaged(&self) -> bool {
        self.faults > 0 || self.decoder.complaints().0 > 0
    }

    /// Key samples alone were to be decoded, but the container gives one of them no time, or times of decoding only: it then
    /// follows from the frames before it. Reading has ended; what it gave may have wrong times.
    pub fn untimed(&self) -> bool {
        self.untimed
    }

    /// Goes to the next frame in presentation order without converting it; `None` at the end.
    ///
    /// # Errors
    /// Input errors: `io` where the source fails, `encrypted`, `too_large`, and `corrupt` where the stream ended
    /// damaged without a single frame.
    pub fn advance(&mut self) -> Result<Option<FrameMeta>> {
        let next = if self.options.deinterlace == Deinterlace::Off { self.next_frame() } else { self.next_between() };
        next.map_err(|e| e.context(&self.uri))
    }

    /// The next frame, when the one behind it has been decoded.
    fn next_between(&mut self) -> Result<Option<FrameMeta>> {
        if self.neighbours.behind.is_none() && !self.ended {
            self.look_ahead()?;
        }
        let Some((picture, meta)) = self.neighbours.behind.take() else {
            self.current = None;
            return Ok(None);
        };
        if let Some(now) = self.neighbours.now.replace(picture) {
            self.neighbours.before = Some(now);
        }
        self.look_ahead()?;
        self.current = Some(meta);
        Ok(self.current)
    }

    fn look_ahead(&mut self) -> Result<()> {
        self.neighbours.behind = match self.next_frame()? {
            Some(meta) => Some((Arc::new(self.picture.share()?), meta)),
            None => None,
        };
        Ok(())
    }

    /// Leaves the frame decoded in advance: reading goes on elsewhere.
    fn forget_neighbours(&mut self) {
        self.counters.discarded += u64::from(self.neighbours.behind.is_some());
        self.neighbours = Neighbours::default();
    }

    fn next_frame(&mut self) -> Result<Option<FrameMeta>> {
        self.aim()?;
        loop {
            let meta = self.decode()?;
            let Some(lead) = self.lead_in else { return self.give(meta) };
            match meta {
                Some(m) if m.pts.is_some_and(|p| p < lead.floor) => {
                    self.counters.discarded += 1;
                    let begun = self.neighbours.now.is_some() || self.neighbours.behind.is_some();
                    if self.options.deinterlace != Deinterlace::Off && !begun {
                        self.neighbours.before = Some(Arc::new(self.picture.share()?));
                    }
                    if lead.proof == Proof::Before {
                        self.lead_in = Some(LeadIn { proof: Proof::Given, ..lead });
                    }
                }
                _ if lead.proof == Proof::Given => return self.give(meta),
                Some(m) if lead.proof == Proof::At && m.pts == Some(lead.floor) => {
                    self.lead_in = Some(LeadIn { proof: Proof::Given, ..lead });
                    return self.give(meta);
                }
                _ => {
                    self.counters.discarded += u64::from(meta.is_some());
                    self.step_back(lead)?;
                }
            }
        }
    }

    fn give(&mut self, meta: Option<FrameMeta>) -> Result<Option<FrameMeta>> {
        let Some(mut meta) = meta else {
            self.current = None;
            if self.counters.decoded == 0 && self.damaged() {
                let error = self.first_error().unwrap_or_default();
                return Err(Error::input(RejectKind::Corrupt, format!("no frame could be decoded: {error}")));
            }
            return Ok(None);
        };
        meta.index = self.given;
        self.given += 1;
        self.counters.guessed_pts += u64::from(meta.guessed);
        self.counters.corrupt += u64::from(meta.corrupt);
        self.current = Some(meta);
        Ok(self.current)
    }

    /// The current frame: the one that [`advance`](Self::advance) last gave.
    ///
    /// # Errors
    /// `unsupported` where its pixel format or colour matrix is one that nothing here can convert; a bug without a
    /// current frame.
    pub fn frame(&self) -> Result<Frame> {
        self.convert().map_err(|e| e.context(&self.uri))
    }

    fn convert(&self) -> Result<Frame> {
        let meta = self.current.ok_or_else(|| Error::bug("a frame was asked for where there is none"))?;
        let Some(now) = &self.neighbours.now else { return self.frame_of(&self.picture, meta) };
        let mut frame = self.frame_of(now, meta)?;
        if meta.fields == Fields::Progressive && self.options.deinterlace != Deinterlace::All {
            return Ok(frame);
        }
        let neighbour = |picture: Option<&Arc<Picture>>| picture.map(|p| self.frame_of(p, meta)).transpose();
        let before = neighbour(self.neighbours.before.as_ref())?;
        let behind = neighbour(self.neighbours.behind.as_ref().map(|(picture, _)| picture))?;
        if let Some(planes) = deinterlace::deinterlace(before.as_ref(), &frame, behind.as_ref(), meta.fields) {
            frame.planes = planes;
        }
        Ok(frame)
    }

    fn frame_of(&self, picture: &Picture, meta: FrameMeta) -> Result<Frame> {
        let surface = picture.on_device();
        // Surfaces have formats of their own; what counts is the one that software would give.
        let layout = if surface { self.decoder.host_layout() } else { picture.layout() };
        let kept = match &layout {
            Some(layout) if surface && self.options.surfaces => surface::kept(picture, layout)?,
            _ => None,
        };
        let on_host = surface && kept.is_none();
        let picture = Arc::new(if on_host { picture.download()? } else { picture.share()? });
        let (format, planes, surface) = match (kept, &layout) {
            (Some((format, surface)), _) => (format, Vec::new(), Some(surface)),
            (None, Some(layout)) if surface => {
                let (format, planes) = surface::planes(&picture, layout)?;
                (format, planes, None)
            }
            _ => {
                let (format, planes) = pixels::planes(&picture)?;
                (format, planes, None)
            }
        };
        let alpha = if on_host || surface.is_some() { None } else { pixels::alpha(&picture)? };
        // Uncompressed pictures of four bytes a pixel often leave the fourth at zero.
        let unsaid = |alpha: &Plane| self.info.codec == "rawvideo" && alpha.data.iter().all(|&a| a == 0);
        let alpha = alpha.filter(|alpha| !unsaid(alpha));
        let look = picture.info().look;
        let name = layout.map(|l| l.name).unwrap_or_default();
        let tags = info::refine(info::tags(&look, &name)?, &self.info.tags);
        let (width, height) = picture.size();
        let orientation = match look.display {
            Some(matrix) => info::orientation(Some(&matrix)).0,
            None => self.info.orientation,
        };
        let aspect = info::aspect(self.stated_aspect.unwrap_or(look.aspect), self.info.sample_aspect);
        Ok(Frame {
            width,
            height,
            format,
            planes,
            alpha,
            surface,
            color: info::color(&tags, (width, height), format, &self.info.codec),
            orientation,
            pts: meta.pts.unwrap_or(0),
            time_base: self.info.time_base,
            keyframe: meta.keyframe,
            sample_aspect: aspect,
        })
    }

    fn fault(&mut self, error: impl Into<String>) {
        self.faults += 1;
        if self.first_error.is_none() {
            // The decoder's own words say more than an error code's text.
            let heard = self.decoder.complaints().1;
            self.first_error = Some(heard.unwrap_or_else(|| error.into()));
        }
    }
}

/// How many seconds the video stream `wanted` lasts, where the container's header says so for sure, as MP4's does: opening a
/// [`VideoReader`] looks at packets and decodes some.
pub fn stated_seconds(source: Arc<dyn ByteSource>, wanted: Option<usize>) -> Option<f64> {
    let input = Input::header(source).ok()?;
    let (stream, _) = choose_stream(&input.streams(), wanted).ok()?;
    let sure = input.container().starts_with("mov,") && !stream.encrypted;
    stream.duration.filter(|_| sure).map(|ticks| info::seconds(ticks, stream.time_base))
}

/// Opens the decoder of a stream, on hardware where it is given.
fn open_decoder(input: &Input, stream: usize, options: &VideoOptions, hardware: Option<&Hardware>) -> Result<Decoder> {
    let device = match hardware.map(|h| &h.device) {
        Some(Device::Test(Fault::Refuse)) => {
            return Err(Error::input(RejectKind::DeviceUnsupported, "it was told to refuse"));
        }
        Some(Device::Real(device)) => Some(device),
        _ => None,
    };
    let how = DecoderOptions {
        threads: options.threads,
        max_pixels: options.max_pixels,
        concealment_fixed: options.concealment_fixed,
        device,
    };
    match (hardware, &options.sessions) {
        (Some(hardware), Some(sessions)) => sessions.open(input, stream, options, (hardware, &how)),
        _ => Decoder::open(input, stream, &how),
    }
}

fn check_size(size: (u32, u32), max_pixels: u64) -> Result<()> {
    if u64::from(size.0) * u64::from(size.1) > max_pixels {
        let text = format!("pictures of {}x{} pixels, more than --max-pixels {max_pixels}", size.0, size.1);
        return Err(Error::input(RejectKind::TooLarge, text));
    }
    Ok(())
}

/// The wanted stream and the number of those that are no cover pictures.
fn choose_stream(streams: &[Stream], wanted: Option<usize>) -> Result<(Stream, usize)> {
    let videos: Vec<&Stream> = streams.iter().filter(|s| s.video).collect();
    let count = videos.iter().filter(|s| !s.attached).count();
    let chosen = match wanted {
        Some(n) => videos.get(n).copied(),
        None => videos.iter().find(|s| !s.attached).copied(),
    };
    chosen.map(|s| (s.clone(), count)).ok_or_else(|| {
        let text = match wanted {
            Some(n) => format!("there is no video stream {n}; the file has {}, counted from 0", videos.len()),
            None => "there is no video stream, only sound, covers or data".to_string(),
        };
        Error::input(RejectKind::NoVideo, text)
    })
}
