// Weighted sums along one axis, rounded to bytes; mirrors src/backend/cpu/resize.rs.

// Bits of a weight's fraction, and what rounds.
const PRECISION: u32 = 22u;
const HALF: i32 = 0x200000;

// The word of what the pass before left at `at`.
fn between(p: u32, at: vec2<i32>) -> u32 {
    return passes[p].input + u32(at.y - passes[p].input_y) * passes[p].input_row + u32(at.x - passes[p].input_x);
}

// What an output position reads: its first input, how many, and where their weights lie.
struct Reach {
    start: i32,
    count: i32,
    weights: u32,
}

fn reach(taps: Taps, position: i32) -> Reach {
    let i = u32(position - taps.first);
    return Reach(
        i32(tables[taps.table + 2u * i]),
        i32(tables[taps.table + 2u * i + 1u]),
        taps.weights + i * taps.stride,
    );
}

fn weight(r: Reach, i: i32) -> i32 {
    return bitcast<i32>(tables[r.weights + u32(i)]);
}

fn rounded(sum: vec3<i32>) -> vec3<i32> {
    return byte_range(sum >> vec3<u32>(PRECISION));
}

// How a pixel at `at` is weighed along a row, or along a column.
fn resize_walk(p: u32, at: vec2<i32>, horizontal: bool) -> Walk {
    if horizontal {
        let r = reach(passes[p].taps, at.x);
        return Walk(vec2<i32>(r.start, at.y), vec2<i32>(1, 0), r.count, r.weights, PRECISION, vec2<i32>(0));
    }
    let r = reach(passes[p].taps, at.y);
    return Walk(vec2<i32>(at.x, r.start), vec2<i32>(0, 1), r.count, r.weights, PRECISION, vec2<i32>(0));
}

// Row `at.y` counts from the first row of each plane that is kept; one plane may have fewer than the other.
fn planes_horizontal(p: u32, at: vec2<i32>) -> vec3<i32> {
    let source = passes[p].source;
    let y = min(at.y + passes[p].taps.row, sources[source].last);
    let c = min(at.y + passes[p].chroma.row, sources[source].y.last);
    let luma_reach = reach(passes[p].taps, at.x);
    let chroma_reach = reach(passes[p].chroma, at.x);
    var sum = vec3<i32>(HALF);
    for (var i = 0; i < luma_reach.count; i++) {
        sum.x += sample(source, 0u, luma_reach.start + i, y) * weight(luma_reach, i);
    }
    for (var i = 0; i < chroma_reach.count; i++) {
        let x = chroma_reach.start + i;
        let w = weight(chroma_reach, i);
        sum.y += sample(source, 1u, x, c) * w;
        sum.z += sample(source, 2u, x, c) * w;
    }
    return rounded(sum);
}

fn planes_vertical(p: u32, at: vec2<i32>) -> vec3<i32> {
    let luma_reach = reach(passes[p].taps, at.y);
    let chroma_reach = reach(passes[p].chroma, at.y);
    var sum = vec3<i32>(HALF);
    for (var i = 0; i < luma_reach.count; i++) {
        let y = luma_reach.start + i - passes[p].taps.row;
        sum.x += unpacked(scratch[between(p, vec2<i32>(at.x, y))]).x * weight(luma_reach, i);
    }
    for (var i = 0; i < chroma_reach.count; i++) {
        let y = chroma_reach.start + i - passes[p].chroma.row;
        let v = unpacked(scratch[between(p, vec2<i32>(at.x, y))]);
        let w = weight(chroma_reach, i);
        sum.y += v.y * w;
        sum.z += v.z * w;
    }
    return rgb(passes[p].source, rounded(sum));
}
