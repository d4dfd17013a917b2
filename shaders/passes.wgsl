// Pixels of a pass: read, weighed, moved and coloured. What is read is computed in one place for all kinds of passes, so
// that the code stays small: compilers copy every call.

// How the inputs of a pixel lie and are weighed: from `first` on in steps, by the words at `weights`, rounded by `shift`
// bits. Four neighbours are weighed by `fraction`.
struct Walk {
    first: vec2<i32>,
    step: vec2<i32>,
    count: i32,
    weights: u32,
    shift: u32,
    fraction: vec2<i32>,
}

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

fn walk(p: u32, kind: u32, at: vec2<i32>) -> Walk {
    switch kind {
        case BLUR_HORIZONTAL: { return blur_walk(p, at); }
        case AFFINE: { return affine_walk(p, at); }
        default: { return resize_walk(p, at, kind == HORIZONTAL); }
    }
}

fn weighed(p: u32, at: vec2<i32>) -> vec3<i32> {
    let kind = passes[p].kind;
    var w = Walk(at, vec2<i32>(0), 1, NONE, 0u, vec2<i32>(0));
    var sum = vec3<i32>(0);
    if kind != COPY {
        w = walk(p, kind, at);
        sum = vec3<i32>(1 << (w.shift - 1u));
    }
    for (var i = 0; i < w.count; i++) {
        var place = w.first + w.step * i;
        var weight = 1;
        var inside = true;
        if kind == AFFINE {
            let step = affine_step(i);
            place = w.first + step;
            weight = affine_weight(w.fraction, step);
            inside = place.x >= 0 && place.y >= 0 && place.x < passes[p].side_x && place.y < passes[p].side_y;
        } else if kind != COPY {
            weight = bitcast<i32>(tables[w.weights + u32(i)]);
        }
        if kind == BLUR_HORIZONTAL {
            place.x = reflected(place.x, passes[p].side_x);
        }
        var v = unpacked(passes[p].fill);
        if inside {
            v = input_pixel(p, place);
        }
        sum += v * weight;
    }
    sum = sum >> vec3<u32>(w.shift);
    if kind == HORIZONTAL || kind == VERTICAL {
        return byte_range(sum);
    }
    return sum;
}

// Pixel `at` of the picture that pass `p` makes.
fn pixel(p: u32, at: vec2<i32>) -> vec3<i32> {
    let end = passes[p].write_end;
    let came = origin(passes[p].write_first, end, at);
    var v = came.color;
    if !came.known {
        switch passes[p].kind {
            case PLANES_HORIZONTAL: { v = planes_horizontal(p, came.at); }
            case PLANES_VERTICAL: { v = planes_vertical(p, came.at); }
            case BLUR_VERTICAL: { v = blur_vertical(p, came.at); }
            default: { v = weighed(p, came.at); }
        }
    }
    return colored(came.next, end, v);
}
