// Bilinear sampling at tabulated positions; mirrors src/backend/cpu/affine.rs.

// Bits of a position's fraction: two weights have as many as a resize's.
const AFFINE_FRACTION: u32 = 11u;

// The four neighbours of a pixel's position, and how far it lies from the first.
fn affine_walk(p: u32, at: vec2<i32>) -> Walk {
    let column = passes[p].taps.table + 2u * u32(at.x);
    let row = passes[p].chroma.table + 2u * u32(at.y);
    let position = vec2<i32>(
        bitcast<i32>(tables[column]) + bitcast<i32>(tables[row]),
        bitcast<i32>(tables[column + 1u]) + bitcast<i32>(tables[row + 1u]),
    );
    let first = position >> vec2<u32>(AFFINE_FRACTION);
    let fraction = position & vec2<i32>((1 << AFFINE_FRACTION) - 1);
    return Walk(first, vec2<i32>(0), 4, NONE, 2u * AFFINE_FRACTION, fraction);
}

// Neighbour `i` of four: where it lies from the first.
fn affine_step(i: i32) -> vec2<i32> {
    return vec2<i32>(i & 1, i >> 1u);
}

fn affine_weight(fraction: vec2<i32>, step: vec2<i32>) -> i32 {
    let other = vec2<i32>(1 << AFFINE_FRACTION) - fraction;
    return select(other.x, fraction.x, step.x == 1) * select(other.y, fraction.y, step.y == 1);
}
