// The parameter blocks of src/program/params.rs, which says what each field means; a test compares both.
//
// All kernels are one translation unit. They compute on 32-bit integers alone, and look up what needs more: no float, no
// division. Compiled as C++ by kernels/host.cpp, the same lines run on a machine without a GPU.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;

#define FN static __device__ __forceinline__
// For what is met too seldom to be worth its own copy at every call.
#define RARE static __device__ __noinline__

constexpr u32 NONE = 0xffffffffu;
constexpr u32 COPY = 0;
constexpr u32 HORIZONTAL = 1;
constexpr u32 VERTICAL = 2;
constexpr u32 PLANES_HORIZONTAL = 3;
constexpr u32 PLANES_VERTICAL = 4;
constexpr u32 BLUR_HORIZONTAL = 5;
constexpr u32 BLUR_VERTICAL = 6;
constexpr u32 AFFINE = 7;
constexpr u32 PLAIN = 0;
constexpr u32 YCC = 1;
constexpr u32 MOVE = 0;
constexpr u32 ERASE = 1;
constexpr u32 GRAYSCALE = 2;
constexpr u32 BLEND_BLACK = 3;
constexpr u32 BLEND_LUMA = 4;
constexpr u32 BLEND_MEAN = 5;
constexpr u32 HUE = 6;
constexpr u32 TABLE = 7;
constexpr u32 CUBE = 8;

struct Taps {
    u32 table;
    u32 weights;
    u32 stride;
    i32 first;
    i32 row;
    u32 digits;
    u32 groups;
    u32 count;
};

struct Axis {
    u32 sub;
    u32 bits;
    i32 offset;
    i32 last;
};

struct Source {
    u32 kind;
    u32 offset[3];
    u32 stride[3];
    u32 step;
    u32 chroma_step;
    u32 low;
    u32 address[2];
    u32 mask;
    u32 table;
    i32 last;
    Axis x;
    Axis y;
    u32 shift;
    i32 most;
    u32 tone;
    u32 nodes;
    i32 matrix[9];
    i32 constant[3];
};

struct Action {
    u32 kind;
    i32 x[3];
    i32 y[3];
    i32 width;
    i32 height;
    u32 fill;
    i32 amount;
    u32 table;
    u32 size;
};

struct Pass {
    u32 kind;
    i32 x;
    i32 y;
    u32 width;
    u32 height;
    u32 to;
    u32 to_row;
    u32 to_plane;
    u32 write_first;
    u32 write_end;
    u32 source;
    u32 read_first;
    u32 read_end;
    u32 input;
    u32 input_row;
    i32 input_x;
    i32 input_y;
    Taps taps;
    Taps chroma;
    u32 element;
    u32 planar;
    u32 table;
    i32 side_x;
    i32 side_y;
    u32 fill;
    u32 sum;
};

// Everything that a kernel reads and writes.
struct Work {
    const Pass *passes;
    const Source *sources;
    const Action *actions;
    const u32 *tables;
    const u8 *pixels;
    u32 *scratch;
    u32 *tensors;
    u32 *sums;
};

// Words that lie on a multiple of their size: one load or store.
struct alignas(8) Two {
    u32 v[2];
};

struct alignas(16) Four {
    u32 v[4];
};

// A place in a picture.
struct Place {
    i32 x, y;
};

// The channels of a pixel.
struct Rgb {
    i32 r, g, b;
};

FN i32 clamp(i32 v, i32 least, i32 most) {
    v = v < least ? least : v;
    return v > most ? most : v;
}

// Red in the lowest byte.
FN u32 packed(Rgb v) {
    return (u32)v.r | (u32)v.g << 8 | (u32)v.b << 16;
}

FN Rgb unpacked(u32 word) {
    return {(i32)(word & 0xff), (i32)(word >> 8 & 0xff), (i32)(word >> 16 & 0xff)};
}

FN Rgb shifted(Rgb v, u32 bits) {
    return {v.r >> bits, v.g >> bits, v.b >> bits};
}

FN Rgb byte_range(Rgb v) {
    return {clamp(v.r, 0, 255), clamp(v.g, 0, 255), clamp(v.b, 0, 255)};
}

// Adds `v` times `weight`.
FN void weigh(Rgb &sum, Rgb v, i32 weight) {
    sum.r += v.r * weight;
    sum.g += v.g * weight;
    sum.b += v.b * weight;
}
