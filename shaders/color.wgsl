// Colour steps, pixel by pixel; mirrors src/backend/cpu/color.rs and lut.rs.

// 1 in the fixed point of factors and shifts.
const ONE: i32 = 65536;

// Bits of a position's fraction between two nodes of a cube, and of a node's.
const CUBE_FRACTION: u32 = 14u;
const NODE_FRACTION: u32 = 7u;

// Pillow's convert("L"): ITU-R 601-2 luma with 16 bits, rounded.
fn luma(v: vec3<i32>) -> i32 {
    return (v.x * 19595 + v.y * 38470 + v.z * 7471 + 0x8000) >> 16u;
}

fn mix_color(v: vec3<i32>, factor: i32, bias: i32) -> vec3<i32> {
    return byte_range((factor * v + vec3<i32>(bias + (ONE >> 1u))) >> vec3<u32>(16u));
}

// Mean of a sum over `count` with 8 bits of fraction, rounded: a long division by shifts, since sum and count fit 32 bits.
fn mean(sum: u32, count: u32) -> i32 {
    var rest = sum;
    var whole = 0u;
    for (var bit = 8u; bit > 0u; bit--) {
        let part = count << (bit - 1u);
        if rest >= part {
            rest -= part;
            whole += 1u << (bit - 1u);
        }
    }
    var fraction = 0u;
    for (var bit = 0u; bit < 8u; bit++) {
        rest <<= 1u;
        fraction <<= 1u;
        if rest >= count {
            rest -= count;
            fraction += 1u;
        }
    }
    if rest + (count >> 1u) >= count {
        fraction += 1u;
    }
    return i32((whole << 8u) + fraction);
}

// What the rest of a blend with the mean adds, in two parts of 8 bits, since both together would not fit.
fn mean_bias(a: u32) -> i32 {
    let m = mean(atomicLoad(&sums[actions[a].table]), actions[a].size);
    let rest = ONE - actions[a].amount;
    return rest * (m >> 8u) + ((rest * (m & 255) + 128) >> 8u);
}

// With d the largest channel less the smallest, hue times d is a whole number from 0 to 6d: nothing has to be divided.
fn turned(v: vec3<i32>, shift: i32) -> vec3<i32> {
    let most = max(v.x, max(v.y, v.z));
    let d = most - min(v.x, min(v.y, v.z));
    var hue = 4 * d + v.x - v.y;
    if most == v.x {
        hue = v.y - v.z;
    } else if most == v.y {
        hue = 2 * d + v.z - v.x;
    }
    if hue < 0 {
        hue += 6 * d;
    }
    let circle = 6 * d * ONE;
    hue = within(hue * ONE + shift * d, circle);
    return vec3<i32>(
        below(most, d, within(hue + 5 * d * ONE, circle)),
        below(most, d, within(hue + 3 * d * ONE, circle)),
        below(most, d, within(hue + d * ONE, circle)),
    );
}

fn within(at: i32, circle: i32) -> i32 {
    if at >= circle {
        return at - circle;
    }
    return at;
}

// How far a channel lies below the largest, by its distance from where it is the smallest.
fn below(most: i32, d: i32, at: i32) -> i32 {
    let less = clamp(min(at, 4 * d * ONE - at), 0, d * ONE);
    return (most * ONE - less + (ONE >> 1u)) >> 16u;
}

fn through_table(v: vec3<i32>, at: u32) -> vec3<i32> {
    return vec3<i32>(
        i32(tables[at + u32(v.x)]),
        i32(tables[at + 256u + u32(v.y)]),
        i32(tables[at + 512u + u32(v.z)]),
    );
}

// Where a colour lies along one axis of a cube: its cell, its fraction, and how far away the next node is.
struct Cell {
    at: u32,
    fraction: i32,
    step: u32,
}

fn cell(table: u32, code: i32, size: u32, stride: u32) -> Cell {
    let position = tables[table + u32(code)];
    let at = position >> CUBE_FRACTION;
    // On the last node nothing lies behind, and its fraction is 0.
    return Cell(at * stride, i32(position & ((1u << CUBE_FRACTION) - 1u)), select(0u, stride, at + 1u < size));
}

fn node(nodes: u32, at: u32) -> vec3<i32> {
    let words = nodes + 3u * at;
    return vec3<i32>(bitcast<i32>(tables[words]), bitcast<i32>(tables[words + 1u]), bitcast<i32>(tables[words + 2u]));
}

// Tetrahedral interpolation: from the cell's first node along the axis of the largest fraction, then of the middle one,
// then of the smallest. The cube's table holds positions for so many codes of each channel, then its nodes.
fn through_cube(v: vec3<i32>, table: u32, codes: u32, size: u32) -> vec3<i32> {
    var a = cell(table, v.x, size, 1u);
    var b = cell(table + codes, v.y, size, size);
    var c = cell(table + 2u * codes, v.z, size, size * size);
    let at = a.at + b.at + c.at;
    let nodes = table + 3u * codes;
    if a.fraction < b.fraction {
        let other = a;
        a = b;
        b = other;
    }
    if b.fraction < c.fraction {
        let other = b;
        b = c;
        c = other;
    }
    if a.fraction < b.fraction {
        let other = a;
        a = b;
        b = other;
    }
    let sum = node(nodes, at) * ((1 << CUBE_FRACTION) - a.fraction)
        + node(nodes, at + a.step) * (a.fraction - b.fraction)
        + node(nodes, at + a.step + b.step) * (b.fraction - c.fraction)
        + node(nodes, at + a.step + b.step + c.step) * c.fraction;
    let shift = CUBE_FRACTION + NODE_FRACTION;
    return byte_range((sum + vec3<i32>(1 << (shift - 1u))) >> vec3<u32>(shift));
}

// Actions [next, end) on a colour.
fn colored(next: u32, end: u32, color: vec3<i32>) -> vec3<i32> {
    var v = color;
    for (var a = next; a < end; a++) {
        let amount = actions[a].amount;
        switch actions[a].kind {
            case GRAYSCALE: { v = vec3<i32>(luma(v)); }
            case BLEND_BLACK: { v = mix_color(v, amount, 0); }
            case BLEND_LUMA: { v = mix_color(v, amount, (ONE - amount) * luma(v)); }
            case BLEND_MEAN: { v = mix_color(v, amount, mean_bias(a)); }
            case HUE: { v = turned(v, amount); }
            case TABLE: { v = through_table(v, actions[a].table); }
            case CUBE: { v = through_cube(v, actions[a].table, BYTE_CODES, actions[a].size); }
            default: {}
        }
    }
    return v;
}
