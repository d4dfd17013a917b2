// Steps that need no neighbours; mirrors src/backend/cpu/picture.rs.

// Where a pixel comes from: a place, or a colour that is known already; and the first action that is still to colour it.
struct Origin {
    at: vec2<i32>,
    known: bool,
    color: vec3<i32>,
    next: u32,
}

// Walks actions [first, end) from the last to the first.
fn origin(first: u32, end: u32, at: vec2<i32>) -> Origin {
    var place = at;
    for (var i = end; i > first; i--) {
        let a = i - 1u;
        if actions[a].kind == ERASE {
            let x = place.x - actions[a].x[2];
            let y = place.y - actions[a].y[2];
            if x >= 0 && y >= 0 && x < actions[a].width && y < actions[a].height {
                return Origin(place, true, unpacked(actions[a].fill), i);
            }
        }
        if actions[a].kind != MOVE {
            continue;
        }
        place = vec2<i32>(
            actions[a].x[0] * place.x + actions[a].x[1] * place.y + actions[a].x[2],
            actions[a].y[0] * place.x + actions[a].y[1] * place.y + actions[a].y[2],
        );
        if place.x < 0 || place.y < 0 || place.x >= actions[a].width || place.y >= actions[a].height {
            return Origin(place, true, unpacked(actions[a].fill), i);
        }
    }
    return Origin(place, false, vec3<i32>(0), first);
}
