// Weighted sums along one axis, rounded to bytes; mirrors src/backend/cpu/resize.rs.

// Bits of a weight's fraction, and what rounds.
const PRECISION: u32 = 22u;
const HALF: i32 = 0x200000;

// The pixel that a pass reads at `at`: of the frame, through the actions that come first, or of the pass before.
fn input_pixel(p: u32, at: vec2<i32>) -> vec3<i32> {
    let source = passes[p].source;
    if source == NONE {
        return unpacked(scratch[between(p, at)]);
    }
    let first = passes[p].read_first;
    let end = passes[p].read_end;
    if first == end {
        return frame_pixel(source, at);
    }
    let came = origin(first, end, at);
    var v = came.color;
    if !came.known {
        v = frame_pixel(source, came.at);
    }
    return colored(came.next, end, v);
}

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

fn horizontal(p: u32, at: vec2<i32>) -> vec3<i32> {
    let r = reach(passes[p].taps, at.x);
    var sum = vec3<i32>(HALF);
    for (var i = 0; i < r.count; i++) {
        sum += input_pixel(p, vec2<i32>(r.start + i, at.y)) * weight(r, i);
    }
    return rounded(sum);
}

fn vertical(p: u32, at: vec2<i32>) -> vec3<i32> {
    let r = reach(passes[p].taps, at.y);
    var sum = vec3<i32>(HALF);
    for (var i = 0; i < r.count; i++) {
        sum += input_pixel(p, vec2<i32>(at.x, r.start + i)) * weight(r, i);
    }
    return rounded(sum);
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

// Pixel (x, y) of the picture that pass `p` makes.
fn pixel(p: u32, at: vec2<i32>) -> vec3<i32> {
    let end = passes[p].write_end;
    let came = origin(passes[p].write_first, end, at);
    var v = came.color;
    if !came.known {
        switch passes[p].kind {
            case HORIZONTAL: { v = horizontal(p, came.at); }
            case VERTICAL: { v = vertical(p, came.at); }
            case PLANES_HORIZONTAL: { v = planes_horizontal(p, came.at); }
            case PLANES_VERTICAL: { v = planes_vertical(p, came.at); }
            default: { v = input_pixel(p, came.at); }
        }
    }
    return colored(came.next, end, v);
}
