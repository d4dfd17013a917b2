// Weighted sums along one axis, rounded to bytes; mirrors src/backend/cpu/resize.rs.

// Bits of a weight's fraction, and what rounds.
constexpr u32 PRECISION = 22;
constexpr i32 HALF = 0x200000;

// The word of what the pass before left at `at`.
FN u32 between(const Pass &p, Place at) {
    return p.input + (u32)(at.y - p.input_y) * p.input_row + (u32)(at.x - p.input_x);
}

// What an output position reads: its first input, how many, and their weights.
struct Reach {
    i32 start, count;
    const u32 *weights;
};

FN Reach reach(const Work &w, const Taps &taps, i32 position) {
    u32 i = (u32)(position - taps.first);
    const u32 *range = w.tables + taps.table + 2 * i;
    return {(i32)range[0], (i32)range[1], w.tables + taps.weights + i * taps.stride};
}

FN Rgb rounded(Rgb sum) {
    return byte_range(shifted(sum, PRECISION));
}

// Row `at.y` counts from the first row of each plane that is kept; one plane may have fewer than the other.
FN Rgb planes_horizontal(const Work &w, const Pass &p, Place at) {
    const Source &s = w.sources[p.source];
    i32 y = at.y + p.taps.row, c = at.y + p.chroma.row;
    y = y > s.last ? s.last : y;
    c = c > s.y.last ? s.y.last : c;
    Reach l = reach(w, p.taps, at.x), k = reach(w, p.chroma, at.x);
    Rgb sum = {HALF, HALF, HALF};
#pragma unroll 1
    for (i32 i = 0; i < l.count; i++) {
        sum.r += sample(w, s, 0, l.start + i, y) * (i32)l.weights[i];
    }
#pragma unroll 1
    for (i32 i = 0; i < k.count; i++) {
        i32 weight = (i32)k.weights[i];
        sum.g += sample(w, s, 1, k.start + i, c) * weight;
        sum.b += sample(w, s, 2, k.start + i, c) * weight;
    }
    return rounded(sum);
}

FN Rgb planes_vertical(const Work &w, const Pass &p, Place at) {
    Reach l = reach(w, p.taps, at.y), k = reach(w, p.chroma, at.y);
    Rgb sum = {HALF, HALF, HALF};
#pragma unroll 1
    for (i32 i = 0; i < l.count; i++) {
        u32 word = w.scratch[between(p, {at.x, l.start + i - p.taps.row})];
        sum.r += unpacked(word).r * (i32)l.weights[i];
    }
#pragma unroll 1
    for (i32 i = 0; i < k.count; i++) {
        Rgb v = unpacked(w.scratch[between(p, {at.x, k.start + i - p.chroma.row})]);
        i32 weight = (i32)k.weights[i];
        sum.g += v.g * weight;
        sum.b += v.b * weight;
    }
    Rgb v = rounded(sum);
    return rgb(w.sources[p.source], v.r, v.g, v.b);
}
