"""Answers questions about photos with Pillow, for tests/photos.rs.

`pillow.py make FOLDER`: writes synthetic photos there, one line each on standard output.
`pillow.py decode`, `pillow.py icc`: reads paths from standard input; for each writes width and height (u32, little
endian) and RGB bytes, as stored (not turned upright). Width 0 means that Pillow cannot read it.
"""
import base64
import io
import os
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageCms

Image.MAX_IMAGE_PIXELS = None


def over_black(im):
    """RGB of an image that may be transparent, over black, rounded."""
    if im.mode in ("RGBA", "LA", "PA") or "transparency" in im.info:
        a = np.asarray(im.convert("RGBA")).astype(np.uint32)
        return ((a[..., :3] * a[..., 3:] + 127) // 255).astype(np.uint8)
    if im.mode.startswith("I"):
        v = (np.asarray(im).astype(np.uint64) * 255 + 32767) // 65535
        return np.repeat(v.astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(im.convert("RGB"))


def to_srgb(im):
    """The same through ImageCms, by the intent that framemill takes."""
    profile = im.info["icc_profile"]
    intent = 0 if profile[64:68] == b"\0\0\0\0" else 1
    if profile[16:20] == b"GRAY":
        im = im.convert("L")
    elif profile[16:20] == b"RGB ":
        im = im.convert("RGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(im, source, target, renderingIntent=intent, outputMode="RGB"))


def answer(convert):
    for line in sys.stdin:
        try:
            with Image.open(line.rstrip("\n")) as im:
                im.load()
                rgb = np.ascontiguousarray(convert(im))
            sys.stdout.buffer.write(struct.pack("<II", rgb.shape[1], rgb.shape[0]) + rgb.tobytes())
        except Exception as e:
            print(f"pillow: {line.strip()}: {e}", file=sys.stderr)
            sys.stdout.buffer.write(struct.pack("<II", 0, 0))
    sys.stdout.buffer.flush()


def scene(w, h, seed=1):
    """Smooth colours with edges and some noise."""
    y, x = np.mgrid[0:h, 0:w]
    rng = np.random.default_rng(seed)
    r = 127 + 120 * np.sin(x / 9 + seed)
    g = 127 + 120 * np.cos(y / 7)
    b = 255.0 * ((x // 8 + y // 8) % 2)
    rgb = np.stack([r, g, b], 2) + rng.normal(0, 12, (h, w, 3))
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def plain_lzw(data):
    """TIFF's LZW with nothing but literals: a clear code before the table grows beyond 9 bits."""
    codes = []
    for at in range(0, len(data), 250):
        codes += [256, *data[at : at + 250]]
    bits = "".join(format(code, "09b") for code in codes + [257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def gray_jpeg(tile):
    out = io.BytesIO()
    Image.fromarray(tile[..., 0]).save(out, "jpeg", quality=90)
    return out.getvalue()


# What TIFF calls its codings, and the bytes of a tile.
CODINGS = {
    "deflate": (8, lambda tile: zlib.compress(tile.tobytes())),
    "lzw": (5, lambda tile: plain_lzw(tile.tobytes())),
    "jpeg": (7, gray_jpeg),
}


def tiled_tiff(samples, tile, planar=False, coding="deflate"):
    """A TIFF of square tiles that reach beyond the picture; samples is height x width x channels, 8 bit."""
    h, w, n = samples.shape
    padded = np.pad(samples, ((0, -h % tile), (0, -w % tile), (0, 0)), mode="edge")
    parts = [padded[..., c : c + 1] for c in range(n)] if planar else [padded]
    blobs = []
    for part in parts:
        for y in range(0, h, tile):
            for x in range(0, w, tile):
                blobs.append(CODINGS[coding][1](part[y : y + tile, x : x + tile]))
    tags = {
        256: (w,), 257: (h,), 258: (8,) * n, 259: (CODINGS[coding][0],), 262: (2 if n == 3 else 1,), 277: (n,),
        284: (2 if planar else 1,), 322: (tile,), 323: (tile,),
        324: tuple(8 + sum(map(len, blobs[:i])) for i in range(len(blobs))), 325: tuple(map(len, blobs)),
    }
    body = b"".join(blobs)
    body += b"\0" * (len(body) % 2)
    directory = struct.pack("<H", len(tags))
    behind, at = b"", 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        data = struct.pack(f"<{len(values)}I", *values)
        directory += struct.pack("<HHI", tag, 4, len(values))
        directory += data if len(values) == 1 else struct.pack("<I", at + len(behind))
        behind += data if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0\0\0\0" + behind


# 13 x 9 gray samples, lossless coding (imagecodecs 2026.3.6).
LOSSLESS = """
/9j/xAAXAAEBAQEAAAAAAAAAAAAAAAAEBQcI/8MACwgACQANAQARAP/aAAgBAAAGAADn+jRo0aNGjRo0aNG6973ve973vfde973ve9738HXXve
973vfwdh3R9173ve97+Duj3vuve9738HYd0e977r3vfwdh3R73ve+697+Duj3ve9733X8HYd0e973ve97/2Q==
"""


def make(folder):
    def write(data, name):
        path = os.path.join(folder, name)
        with open(path, "wb") as f:
            f.write(data)
        print(path)

    def save(im, name, **kw):
        path = os.path.join(folder, name)
        im.save(path, **kw)
        print(path)

    rgb = scene(61, 47)
    alpha = scene(61, 47, 5).convert("L")
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    gray = rgb.convert("L")
    gray_alpha = Image.merge("LA", (gray, alpha))
    pal = rgb.quantize(200)
    deep = (np.asarray(gray).astype(np.uint16) * 257 + 99).astype("<u2")
    for name, kw in {
        "444": dict(subsampling=0), "422": dict(subsampling=1), "420": dict(subsampling=2),
        "prog": dict(progressive=True), "q5": dict(quality=5), "q100": dict(quality=100, subsampling=0),
        "rst": dict(restart_marker_blocks=2), "rgb": dict(keep_rgb=True),
    }.items():
        save(rgb, f"jpeg_{name}.jpg", **kw)
    for w, h in [(1, 1), (2, 3), (7, 5), (8, 8), (9, 17), (16, 16), (17, 33)]:
        save(scene(w, h), f"jpeg_{w}x{h}.jpg", subsampling=2)
    save(gray, "jpeg_gray.jpg")
    save(rgb.convert("CMYK"), "jpeg_cmyk.jpg", quality=95)
    save(rgb, "png_rgb.png")
    save(rgba, "png_rgba.png")
    save(gray, "png_gray.png")
    save(gray_alpha, "png_gray_alpha.png")
    save(Image.fromarray(deep), "png_gray16.png")
    save(pal, "png_pal.png")
    save(pal, "png_pal_alpha.png", transparency=bytes(range(200)))
    save(pal, "png_pal_key.png", transparency=3)
    for bits in (1, 2, 4):
        save(rgb.quantize(1 << bits), f"png_pal{bits}.png", bits=bits)
    save(gray.convert("1"), "png_bit.png")
    save(rgb, "png_profile.png", icc_profile=b"no profile " * 20)
    save(rgb, "png_rgb_key.png", transparency=tuple(rgb.getpixel((3, 3))))
    save(rgb, "bmp_rgb.bmp")
    save(gray, "bmp_gray.bmp")
    save(pal, "bmp_pal.bmp")
    save(gray.convert("1"), "bmp_bit.bmp")
    save(rgba, "bmp_rgba.bmp")
    save(pal, "gif.gif")
    save(gray, "gif_gray.gif")
    save(pal, "gif_anim.gif", save_all=True, append_images=[scene(61, 47, 3).quantize(200)], duration=40)
    save(rgb, "webp_lossless.webp", lossless=True)
    save(rgba, "webp_lossless_alpha.webp", lossless=True, exact=True)
    save(rgb, "webp_lossy.webp", quality=80)
    save(rgba, "webp_lossy_alpha.webp", quality=80)
    save(rgb, "webp_anim.webp", save_all=True, append_images=[scene(61, 47, 3)], lossless=True, duration=40)
    save(rgb, "tiff_rgb.tif")
    save(rgb, "tiff_rgb_lzw.tif", compression="tiff_lzw")
    save(rgb, "tiff_rgb_deflate.tif", compression="tiff_adobe_deflate")
    save(rgba, "tiff_rgba.tif")
    save(gray, "tiff_gray.tif")
    save(Image.fromarray(deep), "tiff_gray16.tif")
    save(pal, "tiff_pal.tif")
    save(gray.convert("1"), "tiff_bit.tif")
    save(gray.convert("1"), "tiff_fax4.tif", compression="group4")
    save(rgb.convert("CMYK"), "tiff_cmyk.tif")
    save(rgb, "tiff_packbits.tif", compression="packbits")
    save(rgb, "tiff_jpeg.tif", compression="jpeg")
    save(rgb.convert("CMYK"), "tiff_cmyk_jpeg.tif", compression="jpeg")
    save(rgb, "tiff_rows.tif", tiffinfo={278: 5})
    for name, samples, kw in [
        ("rgb", rgb, {}), ("planar", rgb, dict(planar=True)), ("lzw", rgb, dict(coding="lzw")),
        ("gray_lzw", gray, dict(coding="lzw")), ("gray", gray, {}), ("jpeg", gray, dict(coding="jpeg")),
        ("planar_jpeg", rgb, dict(planar=True, coding="jpeg")),
    ]:
        array = np.atleast_3d(np.asarray(samples))
        write(tiled_tiff(array, 16, **kw), f"tiff_tiles_{name}.tif")
    write(base64.b64decode(LOSSLESS), "jpeg_lossless.jpg")
    turned = Image.Exif()
    turned[0x112] = 6
    save(rgb, "webp_exif.webp", lossless=True, exif=turned)


if __name__ == "__main__":
    {"make": lambda: make(sys.argv[2]), "decode": lambda: answer(over_black), "icc": lambda: answer(to_srgb)}[
        sys.argv[1]
    ]()
