"""Makes augmented pictures again from their records, with Pillow, NumPy and torchvision's formulas.

Arguments: a tar of pictures before the operation, one after it, and the operation as JSON. Prints one JSON object:
`pictures`; `exact`, the largest distance to the formula in real numbers (0.5 is rounding), and `exact_mean`, its mean;
`torchvision`, the largest difference to what torchvision gives in bytes, and `torchvision_mean`; `control`, the largest
distance to the formula with wrong parameters.
"""

import io, json, math, sys, tarfile

import numpy as np
from PIL import Image


def read(path):
    pictures, records = {}, {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, ending = member.name.split(".", 1)
            data = tar.extractfile(member).read()
            if ending == "png":
                pictures[key] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            elif ending == "json":
                records[key] = json.loads(data)
    return pictures, records


def clamp(x):
    return np.clip(x, 0, 255)


def gray_pillow(x):
    return np.asarray(Image.fromarray(x.astype(np.uint8)).convert("L"), dtype=np.float64)


def gray_torchvision(x):
    return np.floor(x[..., 0] * 0.2989 + x[..., 1] * 0.587 + x[..., 2] * 0.114)


def hue(x, shift):
    """torchvision's _rgb_to_hsv, turn and _hsv_to_rgb, values 0 to 1."""
    r, g, b = x[..., 0], x[..., 1], x[..., 2]
    most, least = x.max(-1), x.min(-1)
    equal = most == least
    d = most - least
    s = d / np.where(equal, 1, most)
    d = np.where(equal, 1, d)
    rc, gc, bc = (most - r) / d, (most - g) / d, (most - b) / d
    hr = (most == r) * (bc - gc)
    hg = ((most == g) & (most != r)) * (2 + rc - bc)
    hb = ((most != g) & (most != r)) * (4 + gc - rc)
    h = np.mod((hr + hg + hb) / 6 + 1, 1)
    h = np.mod(h + shift, 1)
    i = np.floor(h * 6)
    f = h * 6 - i
    i = i.astype(int) % 6
    v = most
    p, q, t = (np.clip(y, 0, 1) for y in (v * (1 - s), v * (1 - s * f), v * (1 - s * (1 - f))))
    return np.stack(
        [np.choose(i, [v, q, p, p, t, v]), np.choose(i, [t, v, v, q, p, p]), np.choose(i, [p, p, t, v, v, q])], -1
    )


def jitter(x, drawn, torch):
    """All steps in the order drawn; in real numbers only the last one is left unrounded."""
    gray = gray_torchvision if torch else gray_pillow
    for n, name in enumerate(drawn["order"]):
        value, base = drawn[name], None
        if name == "hue":
            if torch:
                # to_dtype: floats become bytes by x * (256 - 0.001), cut off.
                y = np.floor(hue((x / 255).astype(np.float32), np.float32(value)) * 255.999)
            else:
                y = hue(x / 255, value) * 255
        else:
            if name == "brightness":
                base = 0.0
            elif name == "contrast":
                base = gray(x).mean()
            else:
                base = gray(x)[..., None]
            y = clamp(value * x + (1 - value) * base)
            y = np.floor(y) if torch else y
        x = y if torch or n + 1 == len(drawn["order"]) else np.floor(y + 0.5)
    return x


def blur(x, kernel, sigma):
    half = kernel // 2
    at = (np.arange(kernel) - half) / sigma
    weights = np.exp(-0.5 * at * at)
    weights /= weights.sum()
    padded = np.pad(x, ((half, half), (half, half), (0, 0)), mode="reflect")
    h, w = x.shape[:2]
    rows = sum(weights[i] * padded[i : i + h] for i in range(kernel))
    return sum(weights[i] * rows[:, i : i + w] for i in range(kernel))


def affine(x, drawn, fill):
    """torchvision's inverse matrix; each neighbour outside counts as the fill."""
    h, w = x.shape[:2]
    rot, (sx, sy) = math.radians(drawn["angle"]), (math.radians(s) for s in drawn["shear"])
    a = math.cos(rot - sy) / math.cos(sy)
    b = -math.cos(rot - sy) * math.tan(sx) / math.cos(sy) - math.sin(rot)
    c = math.sin(rot - sy) / math.cos(sy)
    d = -math.sin(rot - sy) * math.tan(sx) / math.cos(sy) + math.cos(rot)
    m = [v / drawn["scale"] for v in (d, -b, -c, a)]
    tx, ty = drawn["translate"]
    # Centres of the pixels from the middle, as torchvision's grid.
    gx = np.arange(w) + 0.5 - w / 2 - tx
    gy = (np.arange(h) + 0.5 - h / 2 - ty)[:, None]
    px = m[0] * gx + m[1] * gy + w / 2 - 0.5
    py = m[2] * gx + m[3] * gy + h / 2 - 0.5
    x0, y0 = np.floor(px), np.floor(py)
    fx, fy = (px - x0)[..., None], (py - y0)[..., None]

    def at(ix, iy):
        inside = (ix >= 0) & (ix < w) & (iy >= 0) & (iy < h)
        value = x[np.clip(iy, 0, h - 1).astype(int), np.clip(ix, 0, w - 1).astype(int)]
        return np.where(inside[..., None], value, fill)

    top = at(x0, y0) * (1 - fx) + at(x0 + 1, y0) * fx
    bottom = at(x0, y0 + 1) * (1 - fx) + at(x0 + 1, y0 + 1) * fx
    return top * (1 - fy) + bottom * fy


def cube(x, nodes, size):
    """Tetrahedral interpolation in real numbers, one pixel after the other's tetrahedron by masks."""
    at = x / 255 * (size - 1)
    cell = np.minimum(np.floor(at), size - 2).astype(int)
    f = at - cell
    order = np.argsort(-f, axis=-1, kind="stable")
    value, corner, left = 0.0, cell.copy(), 1.0
    for i in range(4):
        axis = order[..., i : i + 1] if i < 3 else None
        next_left = np.take_along_axis(f, axis, -1)[..., 0] if i < 3 else 0.0
        node = nodes[corner[..., 2], corner[..., 1], corner[..., 0]]
        value = value + np.asarray(left - next_left)[..., None] * node
        if i < 3:
            step = np.zeros_like(corner)
            np.put_along_axis(step, axis, 1, -1)
            corner, left = corner + step, next_left
    return clamp(value * 255)


def wrong(drawn):
    """The same parameters, a little off: the negative control."""
    off = {"brightness": 1.05, "contrast": 1.05, "saturation": 1.1, "sigma": 1.3, "angle": 1.2, "w": 0.9, "h": 0.9}
    out = dict(drawn)
    for key, factor in off.items():
        if key in out:
            out[key] = type(out[key])(out[key] * factor)
    if "hue" in out:
        out["hue"] += 0.03
    if "gray" in out:
        out["gray"] = not out["gray"]
    return out


def read_cube(path):
    lines = [l.split() for l in open(path)]
    size = next(int(l[1]) for l in lines if l[0] == "LUT_3D_SIZE")
    nodes = np.array([[float(v) for v in l] for l in lines if l[0][0] in "-0123456789"])
    return nodes.reshape(size, size, size, 3), size


def reference(x, op, drawn, torch):
    """The picture in real numbers, or as torchvision gives it in bytes."""
    name = op["op"]
    if name == "color_jitter":
        return jitter(x.astype(np.float64), drawn, torch)
    if name == "gaussian_blur":
        out = blur(x.astype(np.float64), op["kernel"], drawn["sigma"])
    elif name == "random_affine":
        out = affine(x.astype(np.float64), drawn, np.array(op["fill"], dtype=np.float64))
    elif name == "random_resized_crop":
        box = (drawn["x"], drawn["y"], drawn["x"] + drawn["w"], drawn["y"] + drawn["h"])
        image = Image.fromarray(x).crop(box).resize((op["w"], op["h"]), Image.Resampling.BILINEAR)
        return np.asarray(image).astype(np.float64)
    elif name == "random_grayscale":
        return np.repeat(gray_pillow(x)[..., None], 3, -1) if drawn["gray"] else x.astype(np.float64)
    elif name == "random_erasing":
        out = x.astype(np.float64)
        if drawn["erased"]:
            out[drawn["y"] : drawn["y"] + drawn["h"], drawn["x"] : drawn["x"] + drawn["w"]] = op["value"]
        return out
    elif name == "lut":
        out = cube(x, *read_cube(op["file"])) if drawn.get("right", True) else x.astype(np.float64)
    return np.rint(out) if torch else out


def main():
    before, _ = read(sys.argv[1])
    after, records = read(sys.argv[2])
    op = json.loads(sys.argv[3])
    told = {"pictures": len(after), "exact": 0.0, "exact_mean": 0.0, "torchvision": 0.0, "torchvision_mean": 0.0}
    told["control"] = 0.0
    for key, ours in after.items():
        drawn = (records[key]["augment"] or [{}])[0]
        x = before[key.split("-a")[0]]
        for name, torch in [("exact", False), ("torchvision", True)]:
            distance = np.abs(ours - reference(x, op, drawn, torch))
            told[name] = max(told[name], float(distance.max()))
            told[name + "_mean"] += float(distance.mean()) / len(after)
        off = wrong(drawn) if drawn else {"right": False}
        told["control"] = max(told["control"], float(np.abs(ours - reference(x, op, off, False)).max()))
    print(json.dumps({key: round(value, 4) for key, value in told.items()}))


main()
