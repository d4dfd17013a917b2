"""Times framemill beside other programs: the same files, the same work, interleaved rounds, one table a section.

Called by scripts/bench.sh. A ratio is the speed of a contender over that of its section's first row, taken round by
round: 1 is as fast as that row, which only decodes. Python contenders are timed inside their process, without imports;
programs are timed whole, start-up included. Fails on errors, never on times.
"""

import argparse
import csv
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

SIDE = 224
SHORT = 256
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


# --- Work of Python contenders: each is run as `peers.py --work NAME ARGUMENTS` and prints its seconds.


def pyav(clip, out, threads):
    """Every frame by PyAV, resized by Pillow."""
    import av
    import numpy as np
    from PIL import Image

    begun = time.perf_counter()
    count = 0
    with av.open(clip) as container, open(out, "wb") as file:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        for frame in container.decode(stream):
            picture = frame.to_image().resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            file.write(np.asarray(picture).tobytes())
            count += 1
    return time.perf_counter() - begun, count


def decord(clip, out, threads):
    """Every frame by decord, resized by its filter."""
    from decord import VideoReader, cpu

    begun = time.perf_counter()
    reader = VideoReader(clip, ctx=cpu(0), width=SIDE, height=SIDE, num_threads=threads)
    with open(out, "wb") as file:
        for _ in range(len(reader)):
            file.write(reader.next().asnumpy().tobytes())
    return time.perf_counter() - begun, len(reader)


def needed(clip, keyframes):
    """Indices, in decoding order, of the packets between each wanted frame and the keyframe before it."""
    import av

    with av.open(clip) as container:
        stream = container.streams.video[0]
        base, packets = stream.time_base, []
        for packet in container.demux(stream):
            if packet.pts is not None:
                packets.append((packet.pts, packet.is_keyframe))
    if keyframes:
        return {i for i, (_, key) in enumerate(packets) if key}
    first = min(pts for pts, _ in packets)
    wanted, second = set(), None
    for pts, i in sorted((pts, i) for i, (pts, _) in enumerate(packets)):
        now = int((pts - first) * base)
        if second is None or now > second:
            wanted.add(i)
            second = now
    feed, chain = set(), []
    for i, (_, key) in enumerate(packets):
        chain = [i] if key else chain + [i]
        if i in wanted:
            feed.update(chain)
    return feed


def only(clip, keyframes, threads):
    """Decodes nothing but the needed packets, and drops the pictures."""
    import av

    feed = needed(clip, keyframes == "keyframes")
    begun = time.perf_counter()
    with av.open(clip) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        for i, packet in enumerate(container.demux(stream)):
            if i in feed or packet.pts is None:
                stream.codec_context.decode(packet if packet.pts is not None else None)
    return time.perf_counter() - begun, len(feed)


def files(listing):
    with open(listing, newline="") as file:
        return [row["uri"] for row in csv.DictReader(file)]


def decode_jpeg(path):
    import simplejpeg

    with open(path, "rb") as file:
        return simplejpeg.decode_jpeg(file.read(), colorspace="RGB").shape[0]


def turbo(listing, _, threads):
    """Decoding alone: libjpeg-turbo in threads (it releases the interpreter's lock)."""
    import simplejpeg  # noqa: F401

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        count = sum(1 for _ in pool.map(decode_jpeg, files(listing)))
    return time.perf_counter() - begun, count


@functools.cache
def table():
    import numpy as np

    unit = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    return ((unit - np.float32(MEAN)) / np.float32(STD)).astype(np.float16)


def finished(pixels, f16):
    """HWC bytes as they are, or normalised, f16 and CHW."""
    import numpy as np

    if not f16:
        return pixels.tobytes()
    return np.stack([table()[:, c][pixels[:, :, c]] for c in range(3)]).tobytes()


def by_pillow(path, f16):
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        image = image.convert("RGB")
        w, h = image.size
        size = (SHORT, int(SHORT * h / w)) if w <= h else (int(SHORT * w / h), SHORT)
        image = image.resize(size, Image.Resampling.BICUBIC)
        x, y = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
        return finished(np.asarray(image.crop((x, y, x + SIDE, y + SIDE))), f16)


def by_opencv(path, f16):
    import cv2

    cv2.setNumThreads(1)
    pixels = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    h, w = pixels.shape[:2]
    size = (SHORT, int(SHORT * h / w)) if w <= h else (int(SHORT * w / h), SHORT)
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    x, y = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
    return finished(cv2.cvtColor(pixels[y : y + SIDE, x : x + SIDE], cv2.COLOR_BGR2RGB), f16)


def load(name):
    """Imports before the clock runs."""
    __import__(name)


def photos(work, module, f16, listing, out, threads):
    begun = None
    count = 0
    with ProcessPoolExecutor(threads) as pool:
        # Both processes are up and have their libraries before the clock runs.
        list(pool.map(load, [module] * threads * 4))
        begun = time.perf_counter()
        with open(out, "wb") as file:
            for data in pool.map(functools.partial(work, f16=f16), files(listing), chunksize=8):
                file.write(data)
                count += 1
        seconds = time.perf_counter() - begun
    return seconds, count


def dali(f16, listing, out, threads):
    """DALI's CPU operators."""
    import numpy as np
    from nvidia.dali import fn, pipeline_def, types

    names = files(listing)

    @pipeline_def(batch_size=32, num_threads=threads, device_id=None)
    def graph():
        data, _ = fn.readers.file(files=names)
        pictures = fn.decoders.image(data, device="cpu")
        pictures = fn.resize(pictures, resize_shorter=SHORT, interp_type=types.INTERP_CUBIC)
        if f16:
            mean, std = ([v * 255 for v in values] for values in (MEAN, STD))
            kind = {"dtype": types.FLOAT16, "output_layout": "CHW", "mean": mean, "std": std}
        else:
            kind = {"dtype": types.UINT8, "output_layout": "HWC"}
        return fn.crop_mirror_normalize(pictures, crop=(SIDE, SIDE), **kind)

    pipe = graph()
    pipe.build()
    begun = time.perf_counter()
    count = 0
    with open(out, "wb") as file:
        while count < len(names):
            batch = pipe.run()[0]
            for i in range(min(len(batch), len(names) - count)):
                file.write(np.asarray(batch.at(i)).tobytes())
                count += 1
    return time.perf_counter() - begun, count


WORKS = {
    "pyav": pyav,
    "decord": decord,
    "only": only,
    "turbo": turbo,
    "pillow-u8": functools.partial(photos, by_pillow, "PIL.Image", False),
    "pillow-f16": functools.partial(photos, by_pillow, "PIL.Image", True),
    "opencv-u8": functools.partial(photos, by_opencv, "cv2", False),
    "opencv-f16": functools.partial(photos, by_opencv, "cv2", True),
    "dali-u8": functools.partial(dali, False),
    "dali-f16": functools.partial(dali, True),
}


# --- Timing.


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


class Bench:
    #: Where the work of Python contenders is.
    script = __file__

    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch
        self.notes = {}

    def program(self, *command):
        """A program that is timed whole."""

        def once():
            begun = time.perf_counter()
            run(command)
            return time.perf_counter() - begun, None

        return once

    def ffmpeg(self, before, clip, *after):
        threads = ("-threads", str(self.args.threads))
        return self.program("ffmpeg", "-nostdin", "-v", "error", "-y", *threads, *before, "-i", str(clip), *after)

    def python(self, name, *arguments):
        def once():
            command = [sys.executable, self.script, "--work", name, *map(str, arguments), str(self.args.threads)]
            seconds, count = json.loads(run(command))
            return seconds, count

        return once

    def framemill(self, name, *flags):
        """A run into an empty folder."""
        out = self.scratch / "framemill"

        def once():
            shutil.rmtree(out, ignore_errors=True)
            command = [self.args.framemill, "run", "-o", out, "--format", "tensors", "--progress", "none", "--json"]
            command += ["--threads", str(self.args.threads), *map(str, flags)]
            begun = time.perf_counter()
            text = run(command)
            seconds = time.perf_counter() - begun
            report = json.loads(text.strip().splitlines()[-1])
            if report["inputs"]["rejected"]:
                sys.exit(f"bench: {name} rejected inputs")
            self.notes[name] = report
            shutil.rmtree(out)
            return seconds, report["samples"]

        return once

    def section(self, title, contenders, expected=None):
        """`contenders`: names and functions; the first is the denominator."""
        times = {name: [] for name, _ in contenders}
        for number in range(self.args.rounds):
            # Every other round runs backwards, so that no contender always follows the same one.
            for name, once in contenders if number % 2 == 0 else reversed(contenders):
                seconds, count = once()
                if expected is not None and count is not None and count != expected:
                    sys.exit(f"bench: {name} gave {count} of {expected} samples")
                times[name].append(seconds)
        base = times[contenders[0][0]]
        width = max(map(len, times))
        print(f"\n{title}\n")
        print(f"| {'contender':<{width}} | median s | ratio | min..max   |")
        print(f"|{'-' * (width + 2)}|---------:|------:|-----------:|")
        for name, own in times.items():
            ratios = [b / o for b, o in zip(base, own)]
            spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
            middle = statistics.median(ratios)
            print(f"| {name:<{width}} | {statistics.median(own):8.3f} | {middle:5.2f} | {spread:>10} |", flush=True)
        return times


def frames_of(clip):
    probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets", "-show_entries"]
    return int(run([*probe, "stream=nb_read_packets", "-of", "csv=p=0", str(clip)]).strip().strip(","))


def video(bench, clip):
    frames = frames_of(clip)
    print(f"\nclip: {clip.name}, {frames} frames")
    resize = f"resize:w={SIDE},h={SIDE},filter=bicubic"
    raw = bench.scratch / "raw"
    scale = ("-vf", f"scale={SIDE}:{SIDE}:flags=bicubic", "-pix_fmt", "rgb24", "-f", "rawvideo", str(raw))
    bench.section(
        f"(a) every frame to {SIDE}x{SIDE} RGB, bicubic, against decoding alone",
        [
            ("ffmpeg -f null", bench.ffmpeg((), clip, "-map", "0:v:0", "-f", "null", "-")),
            ("framemill exact", bench.framemill("exact", "-i", clip, "--all", "--op", resize)),
            ("framemill fast", bench.framemill("fast", "-i", clip, "--all", "--op", resize, "--quality", "fast")),
            ("ffmpeg scale", bench.ffmpeg((), clip, *scale)),
            ("decord", bench.python("decord", clip, raw)),
            ("PyAV + Pillow", bench.python("pyav", clip, raw)),
        ],
        frames,
    )
    nokey = ("-map", "0:v:0", "-fps_mode", "passthrough", "-f", "null", "-")
    for title, flags, kind in [
        ("(b) --every 1s, against decoding just the packets that its frames need", ("--every", "1s"), "every"),
        ("(b) --keyframes, against decoding just those", ("--keyframes",), "keyframes"),
    ]:
        contenders = [
            ("PyAV, needed packets only", bench.python("only", clip, kind)),
            (f"framemill {flags[0]}", bench.framemill(kind, "-i", clip, *flags, "--op", resize)),
        ]
        if kind == "keyframes":
            contenders.insert(1, ("ffmpeg -skip_frame nokey", bench.ffmpeg(("-skip_frame", "nokey"), clip, *nokey)))
        bench.section(title, contenders)
        got = bench.notes[kind]["frames"]
        bound = len(needed(str(clip), kind == "keyframes"))
        print(f"\npackets needed {bound}; framemill's report: ", end="")
        print(", ".join(f"{name} {got[name]}" for name in ("packets", "decoded", "redecoded", "sampled")))


def stills(bench, folder, repeat):
    names = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[:160]
    if not names:
        sys.exit(f"bench: no JPEG under {folder}")
    listing = bench.scratch / "photos.csv"
    with listing.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "id"])
        rows.writerows((path.resolve(), f"{i}-{n}") for n in range(repeat) for i, path in enumerate(names))
    count = len(names) * repeat
    print(f"\nphotos: {len(names)} files, {repeat} times")
    ops = ("--op", f"resize:short={SHORT},filter=bicubic", "--op", f"center_crop:w={SIDE},h={SIDE}")
    source = ("-i", listing, "--id-column", "id")
    raw = bench.scratch / "raw"
    for kind, more in [("u8", ()), ("f16", ("--op", "normalize:imagenet", "--op", "to:f16"))]:
        contenders = [
            ("libjpeg-turbo, decoding alone", bench.python("turbo", listing, raw)),
            ("framemill", bench.framemill(f"photos {kind}", *source, *ops, *more)),
            ("Pillow", bench.python(f"pillow-{kind}", listing, raw)),
            ("OpenCV, area", bench.python(f"opencv-{kind}", listing, raw)),
        ]
        if bench.args.dali:
            contenders.append(("DALI, CPU", bench.python(f"dali-{kind}", listing, raw)))
        what = "u8" if kind == "u8" else "normalised f16"
        title = f"(c) photos to short side {SHORT} bicubic, centre crop {SIDE}, {what}, against decoding alone"
        bench.section(title, contenders, count)


def main():
    if sys.argv[1:2] == ["--work"]:
        name, *arguments, threads = sys.argv[2:]
        print(json.dumps(WORKS[name](*arguments, int(threads))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framemill", required=True, help="the program to measure")
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5, help="how often each photo is listed")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender, and cores that it may use")
    parser.add_argument("--only", choices=["video", "photos", "decode"])
    parser.add_argument("--scratch", default="/dev/shm", help="folder in memory for what is written")
    parser.add_argument("--dali", action="store_true")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
        print(f"cores: {len(os.sched_getaffinity(0))}, rounds: {args.rounds}, load before: {os.getloadavg()[0]:.1f}")
    scratch = Path(tempfile.mkdtemp(prefix="framemill-bench-", dir=args.scratch))
    try:
        if args.only == "decode":
            import decode

            bench = decode.main(args, scratch)
        else:
            bench = Bench(args, scratch)
        if args.only in (None, "video"):
            video(bench, args.clip)
        if args.only in (None, "photos"):
            stills(bench, args.photos, args.repeat)
        peaks = ((name, report["peak_memory"]) for name, report in bench.notes.items())
        print("\npeak memory of framemill: " + ", ".join(f"{name} {peak >> 20} MiB" for name, peak in peaks))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
