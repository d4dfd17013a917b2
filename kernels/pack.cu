// The entry points: pixels between passes, sums over a picture, and the finished tensor as src/backend/cpu/picture.rs packs
// it. Each layer of a launch (z) is a pass over another picture; pictures smaller than the launch leave threads idle.

struct Id {
    u32 x, y;
};

FN Id thread() {
    return {blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y};
}

extern "C" __global__ void leave(const __grid_constant__ Work w) {
    const Pass &p = w.passes[blockIdx.z];
    Id id = thread();
    if (id.x >= p.width || id.y >= p.height) {
        return;
    }
    Rgb v = pixel(w, p, {p.x + (i32)id.x, p.y + (i32)id.y});
    u32 *row = w.scratch + p.to + id.y * p.to_row;
    if (p.kind == BLUR_HORIZONTAL) {
        row[2 * id.x] = (u32)v.r | (u32)v.g << 16;
        row[2 * id.x + 1] = (u32)v.b;
    } else {
        row[id.x] = packed(v);
    }
}

// Luma of all pixels, summed: exact, so the order does not matter. Each thread adds up a stretch of a row first.
extern "C" __global__ void total(const __grid_constant__ Work w) {
    const Pass &p = w.passes[blockIdx.z];
    Id id = thread();
    if (id.x * 16 >= p.width || id.y >= p.height) {
        return;
    }
    u32 end = id.x * 16 + 16 < p.width ? id.x * 16 + 16 : p.width, sum = 0;
#pragma unroll 1
    for (u32 x = id.x * 16; x < end; x++) {
        sum += (u32)luma(pixel(w, p, {p.x + (i32)x, p.y + (i32)id.y}));
    }
    atomicAdd(w.sums + p.sum, sum);
}

// One element of the output.
FN u32 element(const u32 *table, u32 channel, i32 value) {
    return table ? table[256 * channel + (u32)value] : (u32)value;
}

// Four elements that lie one behind the other, in as many words as an element has bytes. All elements of a batch are of
// one size, so that four of them lie on a multiple of theirs.
FN void put(u32 *to, u32 size, u32 a, u32 b, u32 c, u32 d) {
    if (size == 1) {
        to[0] = a | b << 8 | c << 16 | d << 24;
    } else if (size == 2) {
        *(Two *)to = {{a | b << 16, c | d << 16}};
    } else {
        *(Four *)to = {{a, b, c, d}};
    }
}

// Four pixels of a row, the first of which is `x` elements from its beginning, whose bytes fill whole words.
FN void pack(const Work &w, const Pass &p, u32 x, u32 y, const Rgb v[4]) {
    const u32 *table = p.table == NONE ? nullptr : w.tables + p.table;
    u32 r[4], g[4], b[4];
    for (u32 i = 0; i < 4; i++) {
        r[i] = element(table, 0, v[i].r);
        g[i] = element(table, 1, v[i].g);
        b[i] = element(table, 2, v[i].b);
    }
    u32 size = p.element, *row = w.tensors + p.to + y * p.to_row;
    if (p.planar == 1) {
        u32 *to = row + (x >> 2) * size;
        put(to, size, r[0], r[1], r[2], r[3]);
        put(to + p.to_plane, size, g[0], g[1], g[2], g[3]);
        put(to + 2 * p.to_plane, size, b[0], b[1], b[2], b[3]);
    } else {
        u32 *to = row + (x >> 2) * 3 * size;
        put(to, size, r[0], g[0], b[0], r[1]);
        put(to + size, size, g[1], b[1], r[2], g[2]);
        put(to + 2 * size, size, b[2], r[3], g[3], b[3]);
    }
}

// Each thread finishes four pixels of a row.
extern "C" __global__ void finish(const __grid_constant__ Work w) {
    const Pass &p = w.passes[blockIdx.z];
    Id id = thread();
    if (id.x * 4 >= p.width || id.y >= p.height) {
        return;
    }
    i32 last = p.x + (i32)p.width - 1, x = p.x + (i32)(id.x * 4);
    Rgb v[4];
#pragma unroll 1
    for (i32 i = 0; i < 4; i++) {
        // What pads a row repeats its last pixel.
        v[i] = pixel(w, p, {x + i < last ? x + i : last, p.y + (i32)id.y});
    }
    pack(w, p, id.x * 4, id.y, v);
}
