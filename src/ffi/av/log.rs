//! FFmpeg's messages: kept from standard error, and those of a decoder's errors remembered by the decoder that they
//! concern. Some damage (a missing HEVC reference, say) shows nowhere else.
//!
//! A decoder's context carries a number in `opaque`, a demuxer's an address that only we have: contexts of other users of
//! FFmpeg in the same process can then be told from ours without touching what theirs points to.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use ffmpeg_next::ffi::*;

static LISTENERS: Mutex<BTreeMap<usize, Arc<Complaints>>> = Mutex::new(BTreeMap::new());

/// Locks, also after a panic elsewhere: what is kept here is never half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Errors that a decoder reported, filled from whichever of its threads meets them: how many, and the first.
#[derive(Default)]
pub(super) struct Complaints(Mutex<(u64, Option<String>)>);

impl Complaints {
    fn add(&self, text: &str) {
        let mut inner = lock(&self.0);
        inner.0 += 1;
        inner.1.get_or_insert_with(|| text.to_string());
    }
}

/// What a demuxer says of a file that was cut, and tells in no other way (Matroska's). Whatever else demuxers complain of,
/// they go on as if it were nothing, and what they then give is judged by itself.
const CUT: &[u8] = b"File ended prematurely";

/// What decoders say when they fill in parts of a picture that are missing. The picture's own flags may come too late where
/// another thread decodes it.
const CONCEALED: &[u8] = b"concealing ";

/// A decoder's or demuxer's registration; ends when dropped.
pub(super) struct Listener {
    number: usize,
    complaints: Arc<Complaints>,
}

impl Listener {
    pub(super) fn new() -> Listener {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Self::of(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Of whoever has this number.
    pub(super) fn of(number: usize) -> Listener {
        let complaints = Arc::<Complaints>::default();
        lock(&LISTENERS).insert(number, complaints.clone());
        Listener { number, complaints }
    }

    /// The value for `AVCodecContext.opaque`.
    pub(super) fn opaque(&self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.number)
    }

    /// How many errors there were, and the first.
    pub(super) fn heard(&self) -> (u64, Option<String>) {
        lock(&self.complaints.0).clone()
    }

    /// Forgets what was heard.
    pub(super) fn forget(&self) {
        *lock(&self.complaints.0) = (0, None);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&LISTENERS).remove(&self.number);
    }
}

/// Routes FFmpeg's messages here instead of to standard error. Every way into FFmpeg calls this first.
pub(super) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sets a process-wide callback of the declared type, which may be called from any thread.
        unsafe { av_log_set_callback(Some(listen)) }
    });
}

/// The callback. The last argument is a `va_list`, whose type differs between targets; only the message's template is
/// needed, so it is left alone and its type inferred.
unsafe extern "C" fn listen<V>(who: *mut c_void, level: c_int, template: *const c_char, _arguments: V) {
    if who.is_null() || template.is_null() || level > AV_LOG_INFO as c_int {
        return;
    }
    // SAFETY: FFmpeg's logging contexts begin with a pointer to their AVClass; where that is the codec contexts' class,
    // `who` is an AVCodecContext, where it is the demuxers', an AVFormatContext; their `opaque` is only compared.
    // `template` is a C string.
    unsafe {
        let class = *who.cast::<*const AVClass>();
        let error = level <= AV_LOG_ERROR as c_int;
        let text = CStr::from_ptr(template);
        let number = if class == avcodec_get_class() && (error || text.to_bytes().starts_with(CONCEALED)) {
            (*who.cast::<AVCodecContext>()).opaque.addr()
        } else if class == avformat_get_class() && error && text.to_bytes().starts_with(CUT) {
            (*who.cast::<AVFormatContext>()).opaque.addr()
        } else {
            return;
        };
        let complaints = lock(&LISTENERS).get(&number).cloned();
        if let Some(complaints) = complaints {
            complaints.add(told(text.to_string_lossy().trim()).as_str());
        }
    }
}

/// A template without its conversions, whose values are not known.
fn told(template: &str) -> String {
    let mut parts = template.split('%');
    let mut out = parts.next().unwrap_or_default().to_string();
    while let Some(part) = parts.next() {
        // Flags, width, precision and length come before the letter of a conversion.
        let letter = part.find(|c: char| c.is_ascii_alphabetic() && !"hljztL".contains(c));
        match letter {
            Some(at) => out += &format!("?{}", &part[at + 1..]),
            None if part.is_empty() => out += &format!("%{}", parts.next().unwrap_or_default()),
            None => out += "?",
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_messages_are_left_open() {
        for (template, expected) in [
            ("Error at MB: %d", "Error at MB: ?"),
            ("concealing %d DC, %d AC, %d MV errors in %c frame", "concealing ? DC, ? AC, ? MV errors in ? frame"),
            ("%s: %5.2lf of %-8llu (%#x) at 100%%, 5%% left", "?: ? of ? (?) at 100%, 5% left"),
            ("no frame!", "no frame!"),
        ] {
            assert_eq!(told(template), expected);
        }
    }
}
