"""Does a job of framemill's with another program, for `framemill bench --peer NAME='python3 peer.py KIND'`.

    peer.py KIND JOB OUT

JOB is the JSON that bench writes: inputs, threads and the job. One picture a sample goes into OUT, in the order of the
samples. Videos: sampling by all, every, fps or keyframes. Operations: one resize and one center_crop, each at most once.
Encoding: JPEG, PNG. What a program here cannot do ends with 69 and the reason. All kinds decode and resize as their users
would, with the filter that the job names where they have it, and use as many threads.
"""

import io
import json
import math
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

# Photos that DALI takes at a time, as training loops do.
DALI_BATCH = 32
PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}


def cannot(why):
    print(why, file=sys.stderr)
    sys.exit(69)


def seconds(text):
    """A time as the job tells it: `2`, `1/2`, `500ms`, `2s`, `10m`, `1:30`."""
    text = str(text)
    if ":" in text:
        total = Fraction(0)
        for part in text.split(":"):
            total = total * 60 + Fraction(part)
        return total
    number, unit = re.fullmatch(r"([0-9./]+)\s*(ms|s|m|h)?", text).groups()
    return Fraction(number) * {"ms": Fraction(1, 1000), "m": 60, "h": 3600}.get(unit, 1)


class Job:
    """What is to be done with each frame."""

    def __init__(self, file):
        order = json.loads(Path(file).read_text())
        job = order["job"]
        self.inputs = [Path(path) for path in order["inputs"]]
        self.threads = order["threads"]
        self.every, self.keyframes = self.rule(job.get("sample", {}))
        self.resize, self.crop = self.ops(job.get("ops", []))
        output = job.get("output", {})
        if output.get("format", "webdataset") != "webdataset":
            cannot("only samples in tars are made by peers")
        encode = output.get("encode") or "jpeg:95"
        name, _, quality = encode.partition(":")
        if name not in ("jpeg", "png"):
            cannot(f"no peer encodes {encode}")
        self.ending = {"jpeg": "jpg"}.get(name, name)
        self.quality = int(quality or 95)
        # None of these converts colour profiles unless it is told to, as Pillow is here.
        self.icc = job.get("icc", "convert") == "convert"
        if job.get("variants", 1) != 1:
            cannot("no peer makes variants")

    @staticmethod
    def rule(sample):
        """Seconds between samples (0 for all frames), and whether only keyframes count."""
        for key in ("count", "at", "scenes", "start", "end", "clip"):
            if sample.get(key):
                cannot(f"no peer samples by {key}")
        if sample.get("pick", "next") != "next":
            cannot("no peer picks other frames than the next")
        if sample.get("keyframes"):
            return Fraction(0), True
        if sample.get("all"):
            return Fraction(0), False
        if sample.get("fps"):
            return 1 / Fraction(str(sample["fps"])), False
        return seconds(sample.get("every", "1")), False

    @staticmethod
    def ops(ops):
        resize, crop = None, None
        for op in ops:
            if op["op"] == "resize" and resize is None and crop is None:
                resize = op
            elif op["op"] == "center_crop" and crop is None:
                crop = (op["w"], op["h"])
            else:
                cannot(f"no peer does {op['op']} here")
        return resize, crop

    def filter(self):
        return (self.resize or {}).get("filter", "bilinear")

    def size(self, width, height):
        """The size after the resize; the long side as torchvision rounds it."""
        op = self.resize
        if op is None:
            return width, height
        if "short" in op and op["short"] is not None:
            side = op["short"]
            if width <= height:
                return side, int(side * height / width)
            return int(side * width / height), side
        if op.get("w") and op.get("h"):
            return op["w"], op["h"]
        return cannot("peers resize to w and h or by the short side")

    def corner(self, width, height):
        w, h = self.crop
        if w > width or h > height:
            cannot("the crop is larger than its picture")
        return round((width - w) / 2), round((height - h) / 2)


class Chooser:
    """Which frames of one video are samples: where floor(t / every) exceeds that of the frame before."""

    def __init__(self, job):
        self.job, self.first, self.last = job, None, None

    def takes(self, time, key):
        if self.job.keyframes:
            return key
        if not self.job.every:
            return True
        if self.first is None:
            self.first = time
        step = math.floor((time - self.first) / self.job.every)
        taken = self.last is None or step > self.last
        self.last = step
        return taken


def pillow_filter(job):
    from PIL import Image

    names = {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
    return getattr(Image.Resampling, job.filter().upper()) if job.filter() in names else cannot("unknown filter")


def by_pillow(job, image, file):
    """Resizes, crops and writes an image of Pillow's."""
    size = job.size(*image.size)
    if size != image.size:
        image = image.resize(size, pillow_filter(job))
    if job.crop:
        x, y = job.corner(*image.size)
        image = image.crop((x, y, x + job.crop[0], y + job.crop[1]))
    save(job, image, file)


def save(job, image, file):
    if job.ending == "jpg":
        image.save(file, quality=job.quality, subsampling=0)
    else:
        image.save(file, compress_level=1)


def opencv_filter(job, shrinks):
    import cv2

    # OpenCV's bicubic and bilinear do not widen where they shrink; INTER_AREA is what its users take then.
    if shrinks:
        return cv2.INTER_AREA
    return {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "lanczos": cv2.INTER_LANCZOS4}.get(
        job.filter(), cv2.INTER_CUBIC
    )


def by_opencv(job, bgr, file):
    """Resizes, crops and writes an array of OpenCV's."""
    import cv2

    height, width = bgr.shape[:2]
    size = job.size(width, height)
    if size != (width, height):
        bgr = cv2.resize(bgr, size, interpolation=opencv_filter(job, size[0] < width))
    if job.crop:
        x, y = job.corner(*size)
        bgr = bgr[y : y + job.crop[1], x : x + job.crop[0]]
    options = []
    if job.ending == "jpg":
        full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        options = [cv2.IMWRITE_JPEG_QUALITY, job.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    cv2.imwrite(str(file), bgr, options)


# --- Videos.


def ffmpeg(job, video, name):
    """FFmpeg's own filters, one process a video."""
    filters = []
    if job.keyframes:
        filters.append("select=eq(key\\,1)")
    elif job.every:
        step = lambda time: f"floor(({time}-start_t)/({job.every.numerator}/{job.every.denominator}))"
        filters.append(f"select=isnan(prev_t)+gt({step('t')}\\,{step('prev_t')})")
    flags = {"nearest": "neighbor", "box": "area", "hamming": "bicubic"}.get(job.filter(), job.filter())
    op = job.resize or {}
    if op.get("short"):
        side = op["short"]
        wide = f"if(lte(iw\\,ih)\\,{side}\\,trunc({side}*iw/ih))"
        high = f"if(lte(iw\\,ih)\\,trunc({side}*ih/iw)\\,{side})"
        filters.append(f"scale=w={wide}:h={high}:flags={flags}+accurate_rnd+full_chroma_int")
    elif op:
        job.size(1, 1)
        filters.append(f"scale={op['w']}:{op['h']}:flags={flags}+accurate_rnd+full_chroma_int")
    filters.append("format=rgb24")
    if job.crop:
        w, h = job.crop
        # Halves go to the even side, as Python rounds them.
        even = lambda gap: f"if(mod({gap}\\,2)\\,2*round(({gap})/4)\\,({gap})/2)"
        filters.append(f"crop={w}:{h}:{even(f'iw-{w}')}:{even(f'ih-{h}')}:exact=1")
    options = ["-q:v", "2", "-pix_fmt", "yuvj444p"] if job.ending == "jpg" else ["-compression_level", "1"]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", str(job.threads), "-i", str(video), "-map", "0:V:0"]
    command += ["-vf", ",".join(filters), "-fps_mode", "passthrough", *options, f"{name}-%06d.{job.ending}"]
    if subprocess.run(command, check=False).returncode != 0:
        cannot(f"ffmpeg failed on {video}")


def pyav(job, video, name):
    """PyAV decodes, Pillow resizes."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = job.threads
        if job.keyframes:
            stream.codec_context.skip_frame = "NONKEY"
        chooser, count = Chooser(job), 0
        for frame in container.decode(stream):
            if chooser.takes(frame.pts * frame.time_base, frame.key_frame):
                count += 1
                by_pillow(job, frame.to_image(), f"{name}-{count:06}.{job.ending}")


def opencv(job, video, name):
    """OpenCV's VideoCapture, which knows no keyframes."""
    import cv2

    if job.keyframes:
        cannot("OpenCV does not tell keyframes")
    cv2.setNumThreads(job.threads)
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, job.threads])
    chooser, count = Chooser(job), 0
    while capture.grab():
        time = Fraction(round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1000), 1_000_000)
        if chooser.takes(time, False):
            count += 1
            by_opencv(job, capture.retrieve()[1], f"{name}-{count:06}.{job.ending}")


def decord(job, video, name):
    """decord jumps to the frames that are wanted; Pillow resizes."""
    import decord as library
    from PIL import Image

    reader = library.VideoReader(str(video), ctx=library.cpu(0), num_threads=job.threads)
    keys, chooser = set(reader.get_key_indices()), Chooser(job)
    time = lambda i: Fraction(round(float(reader.get_frame_timestamp(i)[0]) * 1e6), 1_000_000)
    wanted = [i for i in range(len(reader)) if chooser.takes(time(i), i in keys)]
    for count, index in enumerate(wanted, 1):
        by_pillow(job, Image.fromarray(reader[index].asnumpy()), f"{name}-{count:06}.{job.ending}")


# --- Photos.


def photo_pillow(job, photo, name):
    """Pillow alone."""
    from PIL import Image, ImageCms, ImageOps

    image = ImageOps.exif_transpose(Image.open(photo))
    profile = image.info.pop("icc_profile", None)
    if profile and job.icc and image.mode == "RGB":
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        image = ImageCms.profileToProfile(image, theirs, ImageCms.createProfile("sRGB"), outputMode="RGB")
        image.info.pop("icc_profile", None)
    by_pillow(job, image.convert("RGB"), f"{name}.{job.ending}")


def photo_opencv(job, photo, name):
    """OpenCV's imread."""
    import cv2

    cv2.setNumThreads(1)
    by_opencv(job, cv2.imread(str(photo)), f"{name}.{job.ending}")


def photo_simplejpeg(job, photo, name):
    """libjpeg-turbo through simplejpeg, Pillow resizes."""
    import simplejpeg
    from PIL import Image

    if photo.suffix.lower() not in (".jpg", ".jpeg"):
        cannot("simplejpeg reads JPEG alone")
    pixels = simplejpeg.decode_jpeg(photo.read_bytes(), "RGB", fastdct=False, fastupsample=False)
    by_pillow(job, Image.fromarray(pixels), f"{name}.{job.ending}")


def photo_pyvips(job, photo, name):
    """libvips, which streams."""
    import pyvips

    image = pyvips.Image.new_from_file(str(photo), access="sequential").autorot()
    if image.bands == 1 or image.interpretation not in ("srgb", "rgb"):
        image = image.colourspace("srgb")
    width, height = job.size(image.width, image.height)
    kernel = {"nearest": "nearest", "bilinear": "linear", "lanczos": "lanczos3"}.get(job.filter(), "cubic")
    image = image.resize(width / image.width, vscale=height / image.height, kernel=kernel)
    if job.crop:
        x, y = job.corner(width, height)
        image = image.crop(x, y, *job.crop)
    file = f"{name}.{job.ending}"
    if job.ending == "jpg":
        image.write_to_file(file, Q=job.quality, subsample_mode="off", keep="none")
    else:
        image.write_to_file(file, compression=1)


def photos_dali(job, photos):
    """DALI's operators on the CPU decode and resize a batch at a time; Pillow writes, since DALI has no encoder there."""
    from nvidia.dali import fn, math as dali_math, pipeline_def, types
    from PIL import Image

    filters = {
        "nearest": types.INTERP_NN,
        "bilinear": types.INTERP_LINEAR,
        "bicubic": types.INTERP_CUBIC,
        "lanczos": types.INTERP_LANCZOS3,
    }
    if job.filter() not in filters:
        cannot(f"DALI has no filter {job.filter()}")
    batch, op = min(DALI_BATCH, len(photos)), job.resize or {}

    @pipeline_def(batch_size=batch, num_threads=job.threads, device_id=None)
    def pipeline():
        files = [str(photo) for photo, _ in photos]
        encoded, index = fn.readers.file(files=files, labels=list(range(len(files))), name="photos")
        image = fn.decoders.image(encoded, output_type=types.RGB, jpeg_fancy_upsampling=True)
        if op:
            height_width = fn.peek_image_shape(encoded)[0:2]
            if op.get("short"):
                shorter = dali_math.min(height_width[0], height_width[1])
                size = op["short"] * height_width // shorter
            else:
                size = types.Constant(job.size(1, 1)[::-1], dtype=types.INT64)
            size = fn.cast(size, dtype=types.FLOAT)
            image = fn.resize(image, size=size, interp_type=filters[job.filter()], antialias=True)
        return image, index

    def write(pixels, name):
        image = Image.fromarray(pixels)
        if job.crop:
            x, y = job.corner(*image.size)
            image = image.crop((x, y, x + job.crop[0], y + job.crop[1]))
        save(job, image, f"{name}.{job.ending}")

    pipe = pipeline()
    pipe.build()
    with ThreadPoolExecutor(job.threads) as pool:
        for _ in range(math.ceil(len(photos) / batch)):
            # The next batch is made meanwhile. The last one is filled up from the beginning.
            images, indices = pipe.run()
            done = {int(indices.at(i)[0]): images.at(i) for i in range(batch)}
            list(pool.map(lambda of: write(of[1], photos[of[0]][1]), done.items()))


VIDEOS = {"ffmpeg": ffmpeg, "pyav": pyav, "opencv": opencv, "decord": decord}
STILLS = {"pillow": photo_pillow, "opencv": photo_opencv, "simplejpeg": photo_simplejpeg, "pyvips": photo_pyvips}
# These take all photos at once.
BATCHES = {"dali": photos_dali}


def version(kind):
    if kind == "ffmpeg":
        text = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
        return " ".join(text.split()[:3])
    from importlib.metadata import PackageNotFoundError, version as of

    dali = ["nvidia-dali-cuda130", "nvidia-dali-cuda120"]
    names = {"pyav": ["av"], "opencv": ["opencv-python-headless", "opencv-python"], "dali": dali}.get(kind, [kind])
    for name in names:
        try:
            return f"{name} {of(name)}"
        except PackageNotFoundError:
            continue
    return kind


def main():
    kind, order, out = sys.argv[1:]
    job = Job(order)
    photos = [path.suffix.lower() in PHOTOS for path in job.inputs]
    if any(photos) and kind not in STILLS and kind not in BATCHES:
        cannot(f"{kind} is for videos here")
    if not all(photos) and kind not in VIDEOS:
        cannot(f"{kind} is for photos here")
    named = [(path, str(Path(out) / f"{i:06}")) for i, path in enumerate(job.inputs)]
    stills = [(path, name) for (path, name), photo in zip(named, photos) if photo]
    # A video has the threads to itself; photos have one each.
    for (path, name), photo in zip(named, photos):
        if not photo:
            VIDEOS[kind](job, path, name)
    if kind in BATCHES:
        if stills:
            BATCHES[kind](job, stills)
    else:
        with ThreadPoolExecutor(job.threads) as pool:
            list(pool.map(lambda still: STILLS[kind](job, *still), stills))
    print(version(kind))


if __name__ == "__main__":
    main()
