// Steps that need no neighbours; mirrors src/backend/cpu/picture.rs.

// Where a pixel comes from: a place, or a colour that is known already; and the first action that is still to colour it.
struct Origin {
    Place at;
    bool known;
    Rgb color;
    u32 next;
};

// Walks actions [first, end) from the last to the first.
FN Origin origin(const Work &w, u32 first, u32 end, Place at) {
#pragma unroll 1
    for (u32 i = end; i > first; i--) {
        const Action &a = w.actions[i - 1];
        if (a.kind == ERASE) {
            i32 x = at.x - a.x[2], y = at.y - a.y[2];
            if (x >= 0 && y >= 0 && x < a.width && y < a.height) {
                return {at, true, unpacked(a.fill), i};
            }
        }
        if (a.kind != MOVE) {
            continue;
        }
        at = {a.x[0] * at.x + a.x[1] * at.y + a.x[2], a.y[0] * at.x + a.y[1] * at.y + a.y[2]};
        if (at.x < 0 || at.y < 0 || at.x >= a.width || at.y >= a.height) {
            return {at, true, unpacked(a.fill), i};
        }
    }
    return {at, false, {0, 0, 0}, first};
}
