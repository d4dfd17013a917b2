"""Answers questions about photos with Pillow, for tests/photos.rs.

`pillow.py make FOLDER`: writes synthetic photos there, one line each on standard output.
`pillow.py decode`, `pillow.py icc`: reads paths from standard input; for each writes width and height (u32, little
endian) and RGB bytes, as stored (not turned upright). Width 0 means that Pillow cannot read it.
"""
import io
import os
import struct
import sys

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


def make(folder):
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


if __name__ == "__main__":
    {"make": lambda: make(sys.argv[2]), "decode": lambda: answer(over_black), "icc": lambda: answer(to_srgb)}[
        sys.argv[1]
    ]()
