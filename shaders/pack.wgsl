// The entry points: pixels between passes, sums over a picture, and the finished tensor as src/backend/cpu/picture.rs packs
// it. Each layer of a dispatch (z) is a pass over another picture; pictures smaller than the dispatch leave invocations
// idle.

@compute @workgroup_size(8, 8)
fn leave(@builtin(global_invocation_id) id: vec3<u32>) {
    let p = id.z;
    if id.x >= passes[p].width || id.y >= passes[p].height {
        return;
    }
    let at = vec2<i32>(passes[p].x + i32(id.x), passes[p].y + i32(id.y));
    let v = pixel(p, at);
    let row = passes[p].to + id.y * passes[p].to_row;
    if passes[p].kind == BLUR_HORIZONTAL {
        scratch[row + 2u * id.x] = u32(v.x) | (u32(v.y) << 16u);
        scratch[row + 2u * id.x + 1u] = u32(v.z);
    } else {
        scratch[row + id.x] = packed(v);
    }
}

// Luma of all pixels, summed: exact, so the order does not matter. Each invocation adds up a stretch of a row first.
@compute @workgroup_size(8, 8)
fn total(@builtin(global_invocation_id) id: vec3<u32>) {
    let p = id.z;
    if id.x * 16u >= passes[p].width || id.y >= passes[p].height {
        return;
    }
    let end = min(id.x * 16u + 16u, passes[p].width);
    var sum = 0u;
    for (var x = id.x * 16u; x < end; x++) {
        sum += u32(luma(pixel(p, vec2<i32>(passes[p].x + i32(x), passes[p].y + i32(id.y)))));
    }
    atomicAdd(&sums[passes[p].sum], sum);
}

// One element of the output.
fn element(table: u32, channel: u32, value: i32) -> u32 {
    if table == NONE {
        return u32(value);
    }
    return tables[table + channel * 256u + u32(value)];
}

// Four elements that lie one behind the other, in as many words as an element has bytes.
fn put(to: u32, size: u32, e: vec4<u32>) {
    switch size {
        case 1u: {
            tensors[to] = e.x | (e.y << 8u) | (e.z << 16u) | (e.w << 24u);
        }
        case 2u: {
            tensors[to] = e.x | (e.y << 16u);
            tensors[to + 1u] = e.z | (e.w << 16u);
        }
        default: {
            tensors[to] = e.x;
            tensors[to + 1u] = e.y;
            tensors[to + 2u] = e.z;
            tensors[to + 3u] = e.w;
        }
    }
}

// Each invocation finishes four pixels of a row, whose bytes fill whole words.
@compute @workgroup_size(8, 8)
fn finish(@builtin(global_invocation_id) id: vec3<u32>) {
    let p = id.z;
    if id.x * 4u >= passes[p].width || id.y >= passes[p].height {
        return;
    }
    let last = passes[p].x + i32(passes[p].width) - 1;
    let x = passes[p].x + i32(id.x * 4u);
    let y = passes[p].y + i32(id.y);
    let table = passes[p].table;
    var e: array<vec3<u32>, 4>;
    for (var i = 0; i < 4; i++) {
        // What pads a row repeats its last pixel.
        let v = pixel(p, vec2<i32>(min(x + i, last), y));
        e[i] = vec3<u32>(element(table, 0u, v.x), element(table, 1u, v.y), element(table, 2u, v.z));
    }
    let size = passes[p].element;
    let row = passes[p].to + id.y * passes[p].to_row;
    if passes[p].planar == 1u {
        let to = row + id.x * size;
        let plane = passes[p].to_plane;
        put(to, size, vec4<u32>(e[0].x, e[1].x, e[2].x, e[3].x));
        put(to + plane, size, vec4<u32>(e[0].y, e[1].y, e[2].y, e[3].y));
        put(to + 2u * plane, size, vec4<u32>(e[0].z, e[1].z, e[2].z, e[3].z));
    } else {
        let to = row + id.x * size * 3u;
        put(to, size, vec4<u32>(e[0].x, e[0].y, e[0].z, e[1].x));
        put(to + size, size, vec4<u32>(e[1].y, e[1].z, e[2].x, e[2].y));
        put(to + 2u * size, size, vec4<u32>(e[2].z, e[3].x, e[3].y, e[3].z));
    }
}
