// Pixels of any frame as 8-bit RGB; mirrors src/backend/cpu/convert.rs.

// Codes that the positions of a tone cube are for, and those of a colour cube.
constexpr u32 TONE_CODES = 4096;
constexpr u32 BYTE_CODES = 256;

// Row `y` of a component, uploaded or where a decoder left it.
FN const u8 *row_of(const Work &w, const Source &s, u32 component, i32 y) {
    u64 address = (u64)s.address[1] << 32 | s.address[0];
    const u8 *first = address ? (const u8 *)address : w.pixels;
    return first + s.offset[component] + (u32)y * s.stride[component];
}

// Sample (x, y) of a component as it is stored.
FN i32 sample(const Work &w, const Source &s, u32 component, i32 x, i32 y) {
    const u8 *at = row_of(w, s, component, y) + (u32)x * (component == 0 ? s.step : s.chroma_step);
    // Samples of two bytes lie on even addresses: rows begin on words.
    return s.mask > 0xff ? (i32)((u32)*(const u16 *)at >> s.low & s.mask) : (i32)*at;
}

// Which two chroma samples give the value at a luma position, and how much the second counts.
struct Tap {
    i32 a, b, weight;
};

FN Tap tap(const Axis &axis, i32 at) {
    if (axis.bits == 0) {
        i32 i = at >> axis.sub;
        i = i > axis.last ? axis.last : i;
        return {i, i, 0};
    }
    i32 position = 2 * at - axis.offset;
    i32 first = position >> axis.bits;
    return {clamp(first, 0, axis.last), clamp(first + 1, 0, axis.last), position - first * (1 << axis.bits)};
}

// Chroma at a luma position, 2^(x.bits + y.bits) times its scale.
FN i32 chroma(const Work &w, const Source &s, u32 component, Tap x, Tap y) {
    i32 x_whole = 1 << s.x.bits, y_rest = (1 << s.y.bits) - y.weight;
    i32 a = sample(w, s, component, x.a, y.a) * y_rest + sample(w, s, component, x.a, y.b) * y.weight;
    i32 b = sample(w, s, component, x.b, y.a) * y_rest + sample(w, s, component, x.b, y.b) * y.weight;
    return a * (x_whole - x.weight) + b * x.weight;
}

// One channel of luma and chroma. Wrapping adds: the sum fits, the constant alone may not.
FN i32 channel(const Source &s, u32 c, i32 luma, i32 cb, i32 cr) {
    u32 sum = (u32)s.constant[c] + (u32)(s.matrix[3 * c] * luma) + (u32)(s.matrix[3 * c + 1] * cb)
        + (u32)(s.matrix[3 * c + 2] * cr);
    return clamp((i32)sum >> s.shift, 0, s.most);
}

// Luma and chroma at one place to RGB, of 8 bits, or of 12 for a tone cube.
FN Rgb rgb(const Source &s, i32 luma, i32 cb, i32 cr) {
    return {channel(s, 0, luma, cb, cr), channel(s, 1, luma, cb, cr), channel(s, 2, luma, cb, cr)};
}

FN Rgb converted(const Work &w, const Source &s, Place at) {
    if (s.kind == YCC) {
        Tap x = tap(s.x, at.x), y = tap(s.y, at.y);
        return rgb(s, sample(w, s, 0, at.x, at.y), chroma(w, s, 1, x, y), chroma(w, s, 2, x, y));
    }
    Rgb stored = {sample(w, s, 0, at.x, at.y), sample(w, s, 1, at.x, at.y), sample(w, s, 2, at.x, at.y)};
    if (s.table == NONE) {
        return stored;
    }
    const u32 *table = w.tables + s.table;
    return {(i32)table[stored.r], (i32)table[stored.g], (i32)table[stored.b]};
}

RARE Rgb through_cube(const Work &w, Rgb v, u32 table, u32 codes, u32 size);

FN Rgb frame_pixel(const Work &w, u32 source, Place at) {
    const Source &s = w.sources[source];
    Rgb v = converted(w, s, at);
    return s.tone == NONE ? v : through_cube(w, v, s.tone, TONE_CODES, s.nodes);
}
