// Colour steps, pixel by pixel; mirrors src/backend/cpu/color.rs and lut.rs.

// 1 in the fixed point of factors and shifts.
constexpr i32 ONE = 65536;

// Bits of a position's fraction between two nodes of a cube, and of a node's.
constexpr u32 CUBE_FRACTION = 14;
constexpr u32 NODE_FRACTION = 7;

// Pillow's convert("L"): ITU-R 601-2 luma with 16 bits, rounded.
FN i32 luma(Rgb v) {
    return (v.r * 19595 + v.g * 38470 + v.b * 7471 + 0x8000) >> 16;
}

FN Rgb mix_color(Rgb v, i32 factor, i32 bias) {
    i32 half = bias + (ONE >> 1);
    return byte_range(shifted({factor * v.r + half, factor * v.g + half, factor * v.b + half}, 16));
}

// Mean of a sum over `count` with 8 bits of fraction, rounded: a long division by shifts, since sum and count fit 32 bits.
FN i32 mean(u32 sum, u32 count) {
    u32 rest = sum, whole = 0;
    for (u32 bit = 8; bit > 0; bit--) {
        u32 part = count << (bit - 1);
        if (rest >= part) {
            rest -= part;
            whole += 1u << (bit - 1);
        }
    }
    u32 fraction = 0;
    for (u32 bit = 0; bit < 8; bit++) {
        rest <<= 1;
        fraction <<= 1;
        if (rest >= count) {
            rest -= count;
            fraction += 1;
        }
    }
    if (rest + (count >> 1) >= count) {
        fraction += 1;
    }
    return (i32)((whole << 8) + fraction);
}

// What the rest of a blend with the mean adds, in two parts of 8 bits, since both together would not fit.
FN i32 mean_bias(const Work &w, const Action &a) {
    i32 m = mean(w.sums[a.table], a.size);
    i32 rest = ONE - a.amount;
    return rest * (m >> 8) + ((rest * (m & 255) + 128) >> 8);
}

FN i32 within(i32 at, i32 circle) {
    return at >= circle ? at - circle : at;
}

// How far a channel lies below the largest, by its distance from where it is the smallest.
FN i32 below(i32 most, i32 d, i32 at) {
    i32 other = 4 * d * ONE - at;
    i32 less = clamp(at < other ? at : other, 0, d * ONE);
    return (most * ONE - less + (ONE >> 1)) >> 16;
}

// With d the largest channel less the smallest, hue times d is a whole number from 0 to 6d: nothing has to be divided.
FN Rgb turned(Rgb v, i32 shift) {
    i32 most = v.g > v.b ? v.g : v.b, least = v.g < v.b ? v.g : v.b;
    most = v.r > most ? v.r : most;
    least = v.r < least ? v.r : least;
    i32 d = most - least;
    i32 hue = 4 * d + v.r - v.g;
    if (most == v.r) {
        hue = v.g - v.b;
    } else if (most == v.g) {
        hue = 2 * d + v.b - v.r;
    }
    if (hue < 0) {
        hue += 6 * d;
    }
    i32 circle = 6 * d * ONE;
    hue = within(hue * ONE + shift * d, circle);
    return {
        below(most, d, within(hue + 5 * d * ONE, circle)),
        below(most, d, within(hue + 3 * d * ONE, circle)),
        below(most, d, within(hue + d * ONE, circle)),
    };
}

FN Rgb through_table(const u32 *table, Rgb v) {
    return {(i32)table[v.r], (i32)table[256 + v.g], (i32)table[512 + v.b]};
}

// Where a colour lies along one axis of a cube: its cell, its fraction, and how far away the next node is.
struct Cell {
    u32 at;
    i32 fraction;
    u32 step;
};

FN Cell cell(const u32 *positions, i32 code, u32 size, u32 stride) {
    u32 position = positions[code];
    u32 at = position >> CUBE_FRACTION;
    // On the last node nothing lies behind, and its fraction is 0.
    return {at * stride, (i32)(position & ((1u << CUBE_FRACTION) - 1)), at + 1 < size ? stride : 0};
}

FN Rgb node(const u32 *nodes, u32 at) {
    return {(i32)nodes[3 * at], (i32)nodes[3 * at + 1], (i32)nodes[3 * at + 2]};
}

FN void larger_first(Cell &a, Cell &b) {
    if (a.fraction < b.fraction) {
        Cell other = a;
        a = b;
        b = other;
    }
}

// Tetrahedral interpolation: from the cell's first node along the axis of the largest fraction, then of the middle one,
// then of the smallest. The cube's table holds positions for so many codes of each channel, then its nodes.
RARE Rgb through_cube(const Work &w, Rgb v, u32 table, u32 codes, u32 size) {
    const u32 *positions = w.tables + table;
    Cell a = cell(positions, v.r, size, 1);
    Cell b = cell(positions + codes, v.g, size, size);
    Cell c = cell(positions + 2 * codes, v.b, size, size * size);
    u32 at = a.at + b.at + c.at;
    const u32 *nodes = positions + 3 * codes;
    larger_first(a, b);
    larger_first(b, c);
    larger_first(a, b);
    constexpr u32 shift = CUBE_FRACTION + NODE_FRACTION;
    constexpr i32 half = 1 << (shift - 1);
    Rgb sum = {half, half, half};
    weigh(sum, node(nodes, at), (1 << CUBE_FRACTION) - a.fraction);
    weigh(sum, node(nodes, at + a.step), a.fraction - b.fraction);
    weigh(sum, node(nodes, at + a.step + b.step), b.fraction - c.fraction);
    weigh(sum, node(nodes, at + a.step + b.step + c.step), c.fraction);
    return byte_range(shifted(sum, shift));
}

RARE Rgb action(const Work &w, const Action &a, Rgb v) {
    switch (a.kind) {
    case GRAYSCALE: {
        i32 y = luma(v);
        return {y, y, y};
    }
    case BLEND_BLACK: return mix_color(v, a.amount, 0);
    case BLEND_LUMA: return mix_color(v, a.amount, (ONE - a.amount) * luma(v));
    case BLEND_MEAN: return mix_color(v, a.amount, mean_bias(w, a));
    case HUE: return turned(v, a.amount);
    case TABLE: return through_table(w.tables + a.table, v);
    case CUBE: return through_cube(w, v, a.table, BYTE_CODES, a.size);
    default: return v;
    }
}

// Actions [next, end) on a colour.
FN Rgb colored(const Work &w, u32 next, u32 end, Rgb v) {
#pragma unroll 1
    for (u32 a = next; a < end; a++) {
        v = action(w, w.actions[a], v);
    }
    return v;
}
