// Pixels of any frame as 8-bit RGB; mirrors src/backend/cpu/convert.rs.

// Codes that the positions of a tone cube are for, and those of a colour cube.
const TONE_CODES: u32 = 4096u;
const BYTE_CODES: u32 = 256u;

// Sample (x, y) of a component as it is stored.
fn sample(source: u32, component: u32, x: i32, y: i32) -> i32 {
    let step = select(sources[source].chroma_step, sources[source].step, component == 0u);
    let at = sources[source].offset[component] + u32(y) * sources[source].stride[component] + u32(x) * step;
    // Samples of two bytes never straddle words: rows begin on words.
    return i32((pixels[at >> 2u] >> (((at & 3u) << 3u) + sources[source].low)) & sources[source].mask);
}

// Which two chroma samples give the value at a luma position, and how much the second counts.
struct Tap {
    a: i32,
    b: i32,
    weight: i32,
}

fn tap(axis: Axis, at: i32) -> Tap {
    if axis.bits == 0u {
        let i = min(at >> axis.sub, axis.last);
        return Tap(i, i, 0);
    }
    let position = 2 * at - axis.offset;
    let first = position >> axis.bits;
    return Tap(clamp(first, 0, axis.last), clamp(first + 1, 0, axis.last), position - (first << axis.bits));
}

// Chroma at a luma position, 2^(x.bits + y.bits) times its scale.
fn chroma(source: u32, component: u32, x: Tap, x_whole: i32, y: Tap, y_whole: i32) -> i32 {
    let rest = y_whole - y.weight;
    let a = sample(source, component, x.a, y.a) * rest + sample(source, component, x.a, y.b) * y.weight;
    let b = sample(source, component, x.b, y.a) * rest + sample(source, component, x.b, y.b) * y.weight;
    return a * (x_whole - x.weight) + b * x.weight;
}

// Luma and chroma at one place to RGB, of 8 bits, or of 12 for a tone cube. Wrapping adds: the sum fits, the constant alone may not.
fn rgb(source: u32, ycc: vec3<i32>) -> vec3<i32> {
    var out: vec3<i32>;
    for (var c = 0u; c < 3u; c++) {
        let sum = sources[source].constant[c]
            + sources[source].matrix[3u * c] * ycc.x
            + sources[source].matrix[3u * c + 1u] * ycc.y
            + sources[source].matrix[3u * c + 2u] * ycc.z;
        out[c] = sum >> sources[source].shift;
    }
    return clamp(out, vec3<i32>(0), vec3<i32>(sources[source].most));
}

fn frame_pixel(source: u32, at: vec2<i32>) -> vec3<i32> {
    let v = converted(source, at);
    let tone = sources[source].tone;
    if tone == NONE {
        return v;
    }
    return through_cube(v, tone, TONE_CODES, sources[source].nodes);
}

fn converted(source: u32, at: vec2<i32>) -> vec3<i32> {
    if sources[source].kind == YCC {
        let x_axis = sources[source].x;
        let y_axis = sources[source].y;
        let x = tap(x_axis, at.x);
        let y = tap(y_axis, at.y);
        let x_whole = 1 << x_axis.bits;
        let y_whole = 1 << y_axis.bits;
        return rgb(source, vec3<i32>(
            sample(source, 0u, at.x, at.y),
            chroma(source, 1u, x, x_whole, y, y_whole),
            chroma(source, 2u, x, x_whole, y, y_whole),
        ));
    }
    let stored = vec3<i32>(
        sample(source, 0u, at.x, at.y),
        sample(source, 1u, at.x, at.y),
        sample(source, 2u, at.x, at.y),
    );
    let table = sources[source].table;
    if table == NONE {
        return stored;
    }
    return vec3<i32>(
        i32(tables[table + u32(stored.x)]),
        i32(tables[table + u32(stored.y)]),
        i32(tables[table + u32(stored.z)]),
    );
}
