// Pixels of a pass: read, weighed, moved and coloured.

// The pixel that a pass reads at `at`: of the frame, through the actions that come first, or of the pass before.
FN Rgb input_pixel(const Work &w, const Pass &p, Place at) {
    if (p.source == NONE) {
        return unpacked(w.scratch[between(p, at)]);
    }
    Origin came = origin(w, p.read_first, p.read_end, at);
    return colored(w, came.next, p.read_end, came.known ? came.color : frame_pixel(w, p.source, came.at));
}

FN Rgb resized(const Work &w, const Pass &p, Place at, bool across) {
    Reach r = reach(w, p.taps, across ? at.x : at.y);
    Rgb sum = {HALF, HALF, HALF};
#pragma unroll 1
    for (i32 i = 0; i < r.count; i++) {
        Place place = across ? Place{r.start + i, at.y} : Place{at.x, r.start + i};
        weigh(sum, input_pixel(w, p, place), (i32)r.weights[i]);
    }
    return rounded(sum);
}

// Positions beyond the ends of a row are reflected.
FN Rgb blur_horizontal(const Work &w, const Pass &p, Place at) {
    i32 count = (i32)p.taps.stride, first = at.x - (count >> 1);
    constexpr u32 shift = BLUR_FRACTION - BLUR_BETWEEN;
    constexpr i32 half = 1 << (shift - 1);
    Rgb sum = {half, half, half};
#pragma unroll 1
    for (i32 i = 0; i < count; i++) {
        Place place = {reflected(first + i, p.side_x), at.y};
        weigh(sum, input_pixel(w, p, place), (i32)w.tables[p.taps.weights + (u32)i]);
    }
    return shifted(sum, shift);
}

FN Rgb affine(const Work &w, const Pass &p, Place at) {
    Spot s = spot(w, p, at);
    constexpr i32 half = 1 << (2 * AFFINE_FRACTION - 1);
    Rgb sum = {half, half, half};
#pragma unroll 1
    for (i32 i = 0; i < 4; i++) {
        Place step = affine_step(i);
        Place place = {s.first.x + step.x, s.first.y + step.y};
        bool inside = place.x >= 0 && place.y >= 0 && place.x < p.side_x && place.y < p.side_y;
        weigh(sum, inside ? input_pixel(w, p, place) : unpacked(p.fill), affine_weight(s.fraction, step));
    }
    return shifted(sum, 2 * AFFINE_FRACTION);
}

RARE Rgb made(const Work &w, const Pass &p, Place at) {
    switch (p.kind) {
    case HORIZONTAL: return resized(w, p, at, true);
    case VERTICAL: return resized(w, p, at, false);
    case PLANES_HORIZONTAL: return planes_horizontal(w, p, at);
    case PLANES_VERTICAL: return planes_vertical(w, p, at);
    case BLUR_HORIZONTAL: return blur_horizontal(w, p, at);
    case BLUR_VERTICAL: return blur_vertical(w, p, at);
    case AFFINE: return affine(w, p, at);
    default: return input_pixel(w, p, at);
    }
}

// Pixel `at` of the picture that pass `p` makes.
FN Rgb pixel(const Work &w, const Pass &p, Place at) {
    Origin came = origin(w, p.write_first, p.write_end, at);
    return colored(w, came.next, p.write_end, came.known ? came.color : made(w, p, came.at));
}
