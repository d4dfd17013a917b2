// Resizing along rows, fast: what src/backend/cpu/resize.rs calls the horizontal pass, of a frame. Each pixel is converted
// once, into shared memory; then four neighbouring bytes at a time are weighed. There, a word is four pixels of a channel
// and a row, and the words of all rows lie beside each other, so that one load brings them.
//
// A weight of 22 bits is the sum of three signed digits of 8 bits, each times its power of 256, and so is a sum of weighed
// bytes: three dot products of bytes, exact. The tables hold the digits in groups of four that begin on multiples of four.
//
// Phases between barriers are functions of their own, so that a loop can run them without a GPU.

// Four bytes times four signed bytes, added to `sum`.
FN i32 dot4(u32 bytes, u32 digits, i32 sum) {
#ifdef FRAMEMILL_HOST
    for (u32 i = 0; i < 4; i++) {
        sum += (i32)(bytes >> 8 * i & 0xff) * (signed char)(digits >> 8 * i & 0xff);
    }
    return sum;
#else
    i32 out;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(out) : "r"(bytes), "r"(digits), "r"(sum));
    return out;
#endif
}

// Sums over the three digits of each weight.
struct Digits {
    i32 low, middle, high;
};

FN void weigh4(Digits &sum, u32 bytes, u32 low, u32 middle, u32 high) {
    sum.low = dot4(bytes, low, sum.low);
    sum.middle = dot4(bytes, middle, sum.middle);
    sum.high = dot4(bytes, high, sum.high);
}

// The whole sum fits; parts of it alone may not.
FN i32 joined(Digits sum) {
    u32 whole = (u32)HALF + (u32)sum.low + ((u32)sum.middle << 8) + ((u32)sum.high << 16);
    return clamp((i32)whole >> PRECISION, 0, 255);
}

// Where the digits of a position's weights lie: group `g` has its three at `at`, `at + count`, `at + 2 * count`, the next
// group `3 * count` further on.
struct Groups {
    u32 first, at;
};

FN Groups groups(const Work &w, const Taps &taps, i32 position) {
    u32 i = (u32)(position - taps.first);
    return {w.tables[taps.table + 2 * i] >> 2, taps.digits + i};
}

// How a strip of rows lies in shared memory, in words: channels, then rows of chroma samples, both components in one word.
struct Strip {
    u32 first;
    u32 words;
    u32 pitch;
    // The first chroma sample, a multiple of four, and words of four of them; none where pixels are read one by one.
    i32 chroma_first;
    u32 chroma_words;
};

// The same word of all rows.
template <u32 ROWS> struct alignas(4 * ROWS) Words {
    u32 row[ROWS];
};

// Where a row of chroma samples begins: on a multiple of four, with room for four on each side.
FN u32 chroma_row(const Strip &s, u32 rows, u32 r) {
    return 3 * rows * s.pitch + r * (4 * s.chroma_words + 8) + 4;
}

FN Strip strip(const Work &w, const Pass &p) {
    Strip s;
    Reach first = reach(w, p.taps, p.x), last = reach(w, p.taps, p.x + (i32)p.width - 1);
    s.first = (u32)first.start >> 2;
    s.words = ((u32)(last.start + last.count + 3) >> 2) - s.first;
    // Groups of the last positions may reach beyond, with weights of zero.
    s.pitch = (s.words + p.taps.groups + 3) & ~3u;
    const Source &f = w.sources[p.source];
    // Bytes of YCbCr with one chroma sample for two pixels of a row: nearly all video.
    bool plain = f.kind == YCC && f.mask == 0xff && f.step == 1 && f.x.sub == 1 && f.tone == NONE && p.read_first == p.read_end;
    i32 chroma_last = (i32)(2 * (s.first + s.words));
    chroma_last = chroma_last > f.x.last ? f.x.last : chroma_last;
    i32 before = (i32)(2 * s.first) - 1;
    s.chroma_first = (before < 0 ? 0 : before) & ~3;
    s.chroma_words = plain ? ((u32)(chroma_last - s.chroma_first) >> 2) + 1 : 0;
    return s;
}

FN u32 byte_of(u32 word, u32 i) {
    return word >> 8 * i & 0xff;
}

// Both components of four chroma samples from `x` on, a multiple of four, each in a word.
FN Four chroma4(const Work &w, const Source &s, i32 x, i32 y) {
    Four out;
    if (s.chroma_step == 2) {
        Two words = *(const Two *)(row_of(w, s, 1, y) + 2 * (u32)x);
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            u32 both = words.v[k >> 1] >> 16 * (k & 1);
            out.v[k] = (both & 0xff) | (both & 0xff00) << 8;
        }
    } else {
        u32 cb = *(const u32 *)(row_of(w, s, 1, y) + (u32)x), cr = *(const u32 *)(row_of(w, s, 2, y) + (u32)x);
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            out.v[k] = byte_of(cb, k) | byte_of(cr, k) << 16;
        }
    }
    return out;
}

// Chroma samples between two rows of them, once for all pixels that need them. What lies beyond the ends repeats them.
template <u32 ROWS> FN void rows_chroma(const Work &w, const Pass &p, const Strip &s, u32 *shared) {
    if (s.chroma_words == 0) {
        return;
    }
    const Source &f = w.sources[p.source];
    i32 last = f.x.last - s.chroma_first;
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) {
        u32 row = blockIdx.x * ROWS + r;
        row = row < p.height ? row : p.height - 1;
        Tap y = tap(f.y, p.y + (i32)row);
        u32 rest = (1u << f.y.bits) - (u32)y.weight, weight = (u32)y.weight;
        u32 *to = shared + chroma_row(s, ROWS, r);
        for (u32 i = threadIdx.x; i < s.chroma_words; i += blockDim.x) {
            i32 x = s.chroma_first + (i32)(4 * i);
            Four a = chroma4(w, f, x, y.a), b = chroma4(w, f, x, y.b), v;
#pragma unroll
            for (u32 k = 0; k < 4; k++) {
                v.v[k] = a.v[k] * rest + b.v[k] * weight;
                if (k > 0 && (i32)(4 * i + k) > last) {
                    v.v[k] = v.v[k - 1];
                }
            }
            *(Four *)(to + 4 * i) = v;
            if (i == 0) {
                to[-1] = v.v[0];
            }
            if (i + 1 == s.chroma_words) {
                to[4 * i + 4] = v.v[3];
            }
        }
    }
}

// One channel of four pixels, each held in 0..255.
FN u32 packed4(i32 a, i32 b, i32 c, i32 d) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 720
    u32 high, out;
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, 0;" : "=r"(high) : "r"(d), "r"(c));
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(b), "r"(a), "r"(high));
    return out;
#else
    return (u32)clamp(a, 0, 255) | (u32)clamp(b, 0, 255) << 8 | (u32)clamp(c, 0, 255) << 16 | (u32)clamp(d, 0, 255) << 24;
#endif
}

// Pixels as bytes of three planes, read one by one.
template <u32 ROWS> FN void rows_read(const Work &w, const Pass &p, const Strip &s, u32 *shared) {
    Reach end = reach(w, p.taps, p.x + (i32)p.width - 1);
    i32 last = end.start + end.count - 1;
#pragma unroll 1
    for (u32 r = 0; r < ROWS; r++) {
        u32 row = blockIdx.x * ROWS + r;
        if (row >= p.height) {
            return;
        }
        for (u32 i = threadIdx.x; i < s.words; i += blockDim.x) {
            i32 x = (i32)(4 * (s.first + i));
            u32 bytes[3] = {0, 0, 0};
#pragma unroll 1
            for (i32 k = 0; k < 4; k++) {
                Rgb v = input_pixel(w, p, {x + k < last ? x + k : last, p.y + (i32)row});
                bytes[0] |= (u32)v.r << 8 * k;
                bytes[1] |= (u32)v.g << 8 * k;
                bytes[2] |= (u32)v.b << 8 * k;
            }
            for (u32 c = 0; c < 3; c++) {
                shared[(c * s.pitch + i) * ROWS + r] = bytes[c];
            }
        }
    }
}

// Pixels as bytes of three planes, four at a time. With one chroma sample for two pixels, the four lie between the same
// pairs of samples wherever chroma is sited; only the weights differ.
template <u32 ROWS> FN void rows_convert(const Work &w, const Pass &p, const Strip &s, u32 *shared) {
    if (s.chroma_words == 0) {
        return rows_read<ROWS>(w, p, s, shared);
    }
    const Source &f = w.sources[p.source];
    u32 whole = 1u << f.x.bits;
    u32 even = f.x.bits == 0 ? 1 : 4 - (u32)f.x.offset, odd = f.x.bits == 0 ? 0 : 2 - (u32)f.x.offset;
    i32 k[3][3], constant[3];
    u32 shift = f.shift;
#pragma unroll
    for (u32 c = 0; c < 3; c++) {
        constant[c] = f.constant[c];
#pragma unroll
        for (u32 i = 0; i < 3; i++) {
            k[c][i] = f.matrix[3 * c + i];
        }
    }
    const u32 *luma[ROWS];
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) {
        u32 row = blockIdx.x * ROWS + r;
        row = row < p.height ? row : p.height - 1;
        luma[r] = (const u32 *)row_of(w, f, 0, p.y + (i32)row) + s.first;
    }
    const u32 *chroma = shared + chroma_row(s, ROWS, 0) + (i32)(2 * s.first) - s.chroma_first;
    for (u32 i = threadIdx.x; i < s.words; i += blockDim.x) {
        Words<ROWS> out[3];
#pragma unroll
        for (u32 r = 0; r < ROWS; r++) {
            u32 luma4 = luma[r][i];
            const u32 *at = chroma + r * (4 * s.chroma_words + 8) + 2 * i;
            Two before = *(const Two *)(at - 2), here = *(const Two *)at, after = *(const Two *)(at + 2);
            // Of each pixel, both components of chroma at once: sums stay below 2^16.
            u32 both[4] = {
                before.v[1] * (whole - even) + here.v[0] * even,
                here.v[0] * (whole - odd) + here.v[1] * odd,
                here.v[0] * (whole - even) + here.v[1] * even,
                here.v[1] * (whole - odd) + after.v[0] * odd,
            };
#pragma unroll
            for (u32 c = 0; c < 3; c++) {
                i32 v[4];
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    // Wrapping adds: the sum fits, the constant alone may not.
                    u32 sum = (u32)constant[c] + (u32)k[c][0] * byte_of(luma4, j) + (u32)k[c][1] * (both[j] & 0xffff)
                        + (u32)k[c][2] * (both[j] >> 16);
                    v[j] = (i32)sum >> shift;
                }
                out[c].row[r] = packed4(v[0], v[1], v[2], v[3]);
            }
        }
#pragma unroll
        for (u32 c = 0; c < 3; c++) {
            ((Words<ROWS> *)shared)[c * s.pitch + i] = out[c];
        }
    }
}

// Weighted sums, one output column of all rows by each thread.
template <u32 ROWS> FN void rows_weigh(const Work &w, const Pass &p, const Strip &s, const u32 *shared) {
    u32 count = p.taps.count, step = 3 * count;
    for (u32 x = threadIdx.x; x < p.width; x += blockDim.x) {
        Groups groups_of = groups(w, p.taps, p.x + (i32)x);
        const u32 *digits = w.tables + groups_of.at;
        const Words<ROWS> *words = (const Words<ROWS> *)shared + (groups_of.first - s.first);
        Digits sums[3][ROWS] = {};
#pragma unroll 1
        for (u32 g = 0; g < p.taps.groups; g++, digits += step, words++) {
            u32 low = digits[0], middle = digits[count], high = digits[2 * count];
#pragma unroll
            for (u32 c = 0; c < 3; c++) {
                Words<ROWS> four = words[c * s.pitch];
#pragma unroll
                for (u32 r = 0; r < ROWS; r++) {
                    weigh4(sums[c][r], four.row[r], low, middle, high);
                }
            }
        }
#pragma unroll
        for (u32 r = 0; r < ROWS; r++) {
            u32 row = blockIdx.x * ROWS + r;
            if (row < p.height) {
                w.scratch[p.to + row * p.to_row + x] =
                    packed({joined(sums[0][r]), joined(sums[1][r]), joined(sums[2][r])});
            }
        }
    }
}

#ifndef FRAMEMILL_HOST
template <u32 ROWS> FN void rows(const Work &w) {
    extern __shared__ u32 shared[];
    const Pass &p = w.passes[blockIdx.z];
    if (blockIdx.x * ROWS >= p.height) {
        return;
    }
    Strip s = strip(w, p);
    rows_chroma<ROWS>(w, p, s, shared);
    __syncthreads();
    rows_convert<ROWS>(w, p, s, shared);
    __syncthreads();
    rows_weigh<ROWS>(w, p, s, shared);
}

extern "C" __global__ void __launch_bounds__(256, 3) rows4(const __grid_constant__ Work w) {
    rows<4>(w);
}

extern "C" __global__ void __launch_bounds__(256, 3) rows2(const __grid_constant__ Work w) {
    rows<2>(w);
}
#endif

// Of eight bytes the four at even places, or at odd ones.
FN u32 every_second(Two words, u32 odd) {
#ifdef FRAMEMILL_HOST
    u32 low = words.v[0] >> 8 * odd, high = words.v[1] >> 8 * odd;
    return (low & 0xff) | (low >> 8 & 0xff00) | (high & 0xff) << 16 | (high & 0xff0000) << 8;
#else
    return __byte_perm(words.v[0], words.v[1], odd ? 0x7531 : 0x6420);
#endif
}

// Rows of a frame's planes by themselves: what planes_horizontal does, of bytes that lie `step` apart.
template <u32 ROWS> FN void plane_rows(const Work &w, const Source &s, u32 component, u32 step, const Taps &taps, i32 last,
    i32 x, u32 row, i32 out[ROWS]) {
    Groups groups_of = groups(w, taps, x);
    const u32 *digits = w.tables + groups_of.at;
    u32 count = taps.count, fours = s.stride[component] >> (step + 1);
    const u8 *at[ROWS];
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) {
        i32 y = (i32)(row + r) + taps.row;
        at[r] = row_of(w, s, step == 2 ? 1 : component, y > last ? last : y);
    }
    Digits sums[ROWS] = {};
    for (u32 g = 0; g < taps.groups; g++, digits += 3 * count) {
        u32 low = digits[0], middle = digits[count], high = digits[2 * count];
        // Groups of the last positions may reach beyond the row, with weights of zero.
        u32 four = groups_of.first + g;
        four = four < fours ? four : fours - 1;
#pragma unroll
        for (u32 r = 0; r < ROWS; r++) {
            u32 bytes = step == 1 ? ((const u32 *)at[r])[four] : every_second(((const Two *)at[r])[four], component - 1);
            weigh4(sums[r], bytes, low, middle, high);
        }
    }
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) {
        out[r] = joined(sums[r]);
    }
}

extern "C" __global__ void planes(const __grid_constant__ Work w) {
    constexpr u32 ROWS = 4;
    const Pass &p = w.passes[blockIdx.z];
    u32 x = blockIdx.x * blockDim.x + threadIdx.x, row = (blockIdx.y * blockDim.y + threadIdx.y) * ROWS;
    if (x >= p.width || row >= p.height) {
        return;
    }
    const Source &s = w.sources[p.source];
    i32 at = p.x + (i32)x, luma[ROWS], cb[ROWS], cr[ROWS];
    plane_rows<ROWS>(w, s, 0, 1, p.taps, s.last, at, row, luma);
    plane_rows<ROWS>(w, s, 1, s.chroma_step, p.chroma, s.y.last, at, row, cb);
    plane_rows<ROWS>(w, s, 2, s.chroma_step, p.chroma, s.y.last, at, row, cr);
    for (u32 r = 0; r < ROWS && row + r < p.height; r++) {
        w.scratch[p.to + (row + r) * p.to_row + x] = packed({luma[r], cb[r], cr[r]});
    }
}
