// Weighted means of each row, then of each column; mirrors src/backend/cpu/blur.rs. What the first leaves has more bits
// than a byte: two words a pixel.

const BLUR_FRACTION: u32 = 16u;
const BLUR_BETWEEN: u32 = 7u;

// A position reflected at the ends of `side`, which are not repeated.
fn reflected(at: i32, side: i32) -> i32 {
    let inside = abs(at);
    if inside < side {
        return inside;
    }
    return 2 * (side - 1) - inside;
}

// How a pixel is weighed along its row; positions beyond the ends are reflected.
fn blur_walk(p: u32, at: vec2<i32>) -> Walk {
    let count = i32(passes[p].taps.stride);
    let first = vec2<i32>(at.x - (count >> 1u), at.y);
    let shift = BLUR_FRACTION - BLUR_BETWEEN;
    return Walk(first, vec2<i32>(1, 0), count, passes[p].taps.weights, shift, vec2<i32>(0));
}

fn blur_vertical(p: u32, at: vec2<i32>) -> vec3<i32> {
    let count = i32(passes[p].taps.stride);
    let first = at.y - (count >> 1u);
    var sum = vec3<i32>(1 << (BLUR_FRACTION + BLUR_BETWEEN - 1u));
    for (var i = 0; i < count; i++) {
        let weight = bitcast<i32>(tables[passes[p].taps.weights + u32(i)]);
        sum += wide(p, vec2<i32>(at.x, reflected(first + i, passes[p].side_y))) * weight;
    }
    return sum >> vec3<u32>(BLUR_FRACTION + BLUR_BETWEEN);
}

// What blur_horizontal left.
fn wide(p: u32, at: vec2<i32>) -> vec3<i32> {
    let word = passes[p].input + u32(at.y - passes[p].input_y) * passes[p].input_row
        + 2u * u32(at.x - passes[p].input_x);
    return vec3<i32>(i32(scratch[word] & 0xffffu), i32(scratch[word] >> 16u), i32(scratch[word + 1u]));
}
