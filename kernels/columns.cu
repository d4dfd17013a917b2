// Resizing along columns, fast: what src/backend/cpu/resize.rs calls the vertical pass, of what rows left, to the finished
// tensor. Four pixels of a row read the same rows, so they are weighed together.

// Four words of a row from `x` on; by one load where they lie on a multiple of their size.
FN Four four(const u32 *row, const i32 x[4], bool aligned) {
    if (aligned) {
        return *(const Four *)(row + x[0]);
    }
    return {{row[x[0]], row[x[1]], row[x[2]], row[x[3]]}};
}

// Whether four columns follow each other from a multiple of four on, in rows that begin on one.
FN bool aligned(const Pass &p, const i32 x[4]) {
    bool follow = x[1] == x[0] + 1 && x[2] == x[0] + 2 && x[3] == x[0] + 3;
    return follow && ((p.input | p.input_row | (u32)x[0]) & 3) == 0;
}

// Four places of one row of the pass before, weighed along their columns.
FN void column4(const Work &w, const Pass &p, const Place at[4], Rgb out[4]) {
    Reach r = reach(w, p.taps, at[0].y);
    const u32 *row = w.scratch + p.input + (u32)(r.start - p.input_y) * p.input_row;
    i32 x[4];
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        out[k] = {HALF, HALF, HALF};
        x[k] = at[k].x - p.input_x;
    }
    bool whole = aligned(p, x);
#pragma unroll 4
    for (i32 i = 0; i < r.count; i++, row += p.input_row) {
        i32 weight = (i32)r.weights[i];
        Four words = four(row, x, whole);
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            weigh(out[k], unpacked(words.v[k]), weight);
        }
    }
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        out[k] = rounded(out[k]);
    }
}

// The same of planes, then RGB.
FN void plane_column4(const Work &w, const Pass &p, const Place at[4], Rgb out[4]) {
    Reach l = reach(w, p.taps, at[0].y), c = reach(w, p.chroma, at[0].y);
    const u32 *luma = w.scratch + p.input + (u32)(l.start - p.taps.row - p.input_y) * p.input_row;
    const u32 *chroma = w.scratch + p.input + (u32)(c.start - p.chroma.row - p.input_y) * p.input_row;
    i32 x[4];
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        out[k] = {HALF, HALF, HALF};
        x[k] = at[k].x - p.input_x;
    }
    bool whole = aligned(p, x);
#pragma unroll 4
    for (i32 i = 0; i < l.count; i++, luma += p.input_row) {
        i32 weight = (i32)l.weights[i];
        Four words = four(luma, x, whole);
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            out[k].r += unpacked(words.v[k]).r * weight;
        }
    }
#pragma unroll 4
    for (i32 i = 0; i < c.count; i++, chroma += p.input_row) {
        i32 weight = (i32)c.weights[i];
        Four words = four(chroma, x, whole);
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            Rgb v = unpacked(words.v[k]);
            out[k].g += v.g * weight;
            out[k].b += v.b * weight;
        }
    }
    const Source &s = w.sources[p.source];
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        Rgb v = rounded(out[k]);
        out[k] = rgb(s, v.r, v.g, v.b);
    }
}

extern "C" __global__ void __launch_bounds__(128, 6) columns(const __grid_constant__ Work w) {
    const Pass &p = w.passes[blockIdx.z];
    Id id = thread();
    if (id.x * 4 >= p.width || id.y >= p.height) {
        return;
    }
    i32 last = p.x + (i32)p.width - 1, x = p.x + (i32)(id.x * 4);
    Place at[4];
    Rgb v[4];
    u32 next[4];
    bool together = true;
#pragma unroll
    for (i32 k = 0; k < 4; k++) {
        // What pads a row repeats its last pixel.
        Origin came = origin(w, p.write_first, p.write_end, {x + k < last ? x + k : last, p.y + (i32)id.y});
        at[k] = came.at;
        v[k] = came.color;
        next[k] = came.next;
        together = together && !came.known && came.at.y == at[0].y;
    }
    if (together) {
        if (p.kind == VERTICAL) {
            column4(w, p, at, v);
        } else {
            plane_column4(w, p, at, v);
        }
#pragma unroll
        for (i32 k = 0; k < 4; k++) {
            v[k] = colored(w, next[k], p.write_end, v[k]);
        }
    } else {
        // Turned, or partly beyond the picture.
#pragma unroll 1
        for (i32 k = 0; k < 4; k++) {
            v[k] = pixel(w, p, {x + k < last ? x + k : last, p.y + (i32)id.y});
        }
    }
    pack(w, p, id.x * 4, id.y, v);
}
