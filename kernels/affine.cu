// Bilinear sampling at tabulated positions; mirrors src/backend/cpu/affine.rs.

// Bits of a position's fraction: two weights have as many as a resize's.
constexpr u32 AFFINE_FRACTION = 11;

// The first of the four neighbours of a pixel's position, and how far it lies from that.
struct Spot {
    Place first, fraction;
};

FN Spot spot(const Work &w, const Pass &p, Place at) {
    const u32 *column = w.tables + p.taps.table + 2 * (u32)at.x, *row = w.tables + p.chroma.table + 2 * (u32)at.y;
    i32 x = (i32)column[0] + (i32)row[0], y = (i32)column[1] + (i32)row[1];
    constexpr i32 mask = (1 << AFFINE_FRACTION) - 1;
    return {{x >> AFFINE_FRACTION, y >> AFFINE_FRACTION}, {x & mask, y & mask}};
}

// Neighbour `i` of four: where it lies from the first.
FN Place affine_step(i32 i) {
    return {i & 1, i >> 1};
}

FN i32 affine_weight(Place fraction, Place step) {
    constexpr i32 whole = 1 << AFFINE_FRACTION;
    return (step.x == 1 ? fraction.x : whole - fraction.x) * (step.y == 1 ? fraction.y : whole - fraction.y);
}
