// Weighted means of each row, then of each column; mirrors src/backend/cpu/blur.rs. What the first leaves has more bits
// than a byte: two words a pixel.

constexpr u32 BLUR_FRACTION = 16;
constexpr u32 BLUR_BETWEEN = 7;

// A position reflected at the ends of `side`, which are not repeated.
FN i32 reflected(i32 at, i32 side) {
    i32 inside = at < 0 ? -at : at;
    return inside < side ? inside : 2 * (side - 1) - inside;
}

// What the horizontal half left.
FN Rgb wide(const Work &w, const Pass &p, Place at) {
    const u32 *word = w.scratch + p.input + (u32)(at.y - p.input_y) * p.input_row + 2 * (u32)(at.x - p.input_x);
    return {(i32)(word[0] & 0xffff), (i32)(word[0] >> 16), (i32)word[1]};
}

FN Rgb blur_vertical(const Work &w, const Pass &p, Place at) {
    i32 count = (i32)p.taps.stride, first = at.y - (count >> 1);
    constexpr i32 half = 1 << (BLUR_FRACTION + BLUR_BETWEEN - 1);
    Rgb sum = {half, half, half};
#pragma unroll 1
    for (i32 i = 0; i < count; i++) {
        weigh(sum, wide(w, p, {at.x, reflected(first + i, p.side_y)}), (i32)w.tables[p.taps.weights + (u32)i]);
    }
    return shifted(sum, BLUR_FRACTION + BLUR_BETWEEN);
}
