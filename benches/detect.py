"""Times detection by framemill beside the same model driven from Python: onnxruntime and OpenCV, on the same cores.

detect.py --framemill PROGRAM --model yolox_nano.onnx --photos FOLDER --clip VIDEO. The Python contenders decode with OpenCV,
prepare pictures as YOLOX's own demo does, run the model, decode its head and suppress boxes; framemill does all of that and
writes a dataset. `loop` is the program that people write: one picture after the other, the runtime on all cores. `pool`
has a process for each core, each with a session of one thread. A ratio is the speed of framemill over a contender's, taken
round by round. Python is timed inside its process, without imports and the loading of the model; framemill is timed whole.

Then the overlap: a run with detection against the slower of decoding alone (the same run without a detector) and
detection alone (the same pictures in memory, sessions of one thread on each core). Fails on errors, never on times.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

SIZE = 416
SCORE, OVERLAP = 0.3, 0.45


# --- Work of Python contenders: each is run as `detect.py --work NAME ARGUMENTS` and prints its seconds.


def session(model, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def prepared(picture):
    """YOLOX's `preproc`: the picture at the top left, gray around it, in the order of OpenCV."""
    import cv2
    import numpy as np

    h, w = picture.shape[:2]
    ratio = min(SIZE / h, SIZE / w)
    small = cv2.resize(picture, (int(w * ratio), int(h * ratio)), interpolation=cv2.INTER_LINEAR)
    padded = np.full((SIZE, SIZE, 3), 114, np.uint8)
    padded[: small.shape[0], : small.shape[1]] = small
    return np.ascontiguousarray(padded.transpose(2, 0, 1), np.float32)[None], ratio


def grids():
    import numpy as np

    cells, strides = [], []
    for stride in (8, 16, 32):
        n = SIZE // stride
        y, x = np.mgrid[:n, :n]
        cells.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((n * n, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def found(output, ratio, cells, strides):
    """YOLOX's `demo_postprocess`, and suppression class by class."""
    import cv2
    import numpy as np

    centres, sizes = (output[:, :2] + cells) * strides, np.exp(output[:, 2:4]) * strides
    scores = output[:, 4:5] * output[:, 5:]
    classes, best = scores.argmax(1), scores.max(1)
    keep = best >= SCORE
    boxes = np.concatenate((centres - sizes / 2, sizes), 1)[keep] / ratio
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), best[keep].tolist(), classes[keep].tolist(), SCORE, OVERLAP)
    return len(kept)


def detect(picture, run, name, grid):
    data, ratio = prepared(picture)
    return found(run.run(None, {name: data})[0][0], ratio, *grid)


def files(listing):
    with open(listing, newline="") as file:
        return [row["uri"] for row in csv.DictReader(file)]


def frames(media, every):
    """All pictures: of a list its photos, of a video one frame in `every`."""
    import cv2

    if media.endswith(".csv"):
        yield from map(cv2.imread, files(media))
        return
    video, n = cv2.VideoCapture(media), 0
    while video.grab():
        if n % every == 0:
            yield video.retrieve()[1]
        n += 1


def loop(media, model, every, threads):
    import cv2

    cv2.setNumThreads(threads)
    run, grid = session(model, threads), grids()
    name = run.get_inputs()[0].name
    begun = time.perf_counter()
    count = objects = 0
    for picture in frames(media, every):
        objects += detect(picture, run, name, grid)
        count += 1
    return time.perf_counter() - begun, count, objects


def ready(model):
    import cv2

    global POOLED
    cv2.setNumThreads(1)
    run = session(model, 1)
    POOLED = run, run.get_inputs()[0].name, grids()


def one(path):
    import cv2

    return detect(cv2.imread(path), *POOLED)


def idle(_):
    time.sleep(0.05)


def pool(media, model, _, threads):
    with ProcessPoolExecutor(threads, initializer=ready, initargs=(model,)) as workers:
        # All processes are up and have their models before the clock runs.
        list(workers.map(idle, range(threads * 8)))
        begun = time.perf_counter()
        counts = list(workers.map(one, files(media), chunksize=4))
        return time.perf_counter() - begun, len(counts), sum(counts)


def alone_here(model, count):
    """Detection alone on one core: the same prepared picture again and again."""
    import numpy as np

    rng = np.random.default_rng(1)
    ready(model)
    run, name, grid = POOLED
    data = rng.integers(0, 256, (1, 3, SIZE, SIZE)).astype(np.float32)
    begun = time.perf_counter()
    for _ in range(count):
        found(run.run(None, {name: data})[0][0], 1.0, *grid)
    return time.perf_counter() - begun


def alone(count, model, _, threads):
    with ProcessPoolExecutor(threads) as workers:
        list(workers.map(idle, range(threads * 8)))
        share = -(-int(count) // threads)
        seconds = list(workers.map(alone_here, [model] * threads, [share] * threads))
        # Told for the very number of pictures.
        return max(seconds) * int(count) / (share * threads), int(count), 0


WORKS = {"loop": loop, "pool": pool, "alone": alone}


# --- Timing.


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


class Bench:
    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch

    def python(self, work, media):
        def once():
            tail = [media, self.args.model, self.args.every, self.args.threads]
            return json.loads(run([sys.executable, __file__, "--work", work, *map(str, tail)]))

        return once

    def framemill(self, media, detector=True):
        """A run into an empty folder: small samples, so that their encoding is what it would be beside any detector."""
        out = self.scratch / "framemill"

        def once():
            shutil.rmtree(out, ignore_errors=True)
            command = [self.args.framemill, "run", "-i", media, "-o", out, "--progress", "none", "--json", "--op"]
            command += ["resize:w=64,h=64", "--threads", self.args.threads]
            command += ["--id-column", "id"] if str(media).endswith(".csv") else ["--fps", self.args.fps]
            if detector:
                command += ["--detect", self.args.model, "--labels", "coco", "--detect-score", SCORE]
            begun = time.perf_counter()
            text = run([str(word) for word in command])
            seconds = time.perf_counter() - begun
            report = json.loads(text.strip().splitlines()[-1])
            if report["inputs"]["rejected"]:
                sys.exit("bench: framemill rejected inputs")
            return seconds, report["samples"], 0

        return once

    def rounds(self, contenders):
        """Seconds of each contender, round by round; every other round runs backwards."""
        times = {name: [] for name, _ in contenders}
        counts = {}
        for number in range(self.args.rounds):
            for name, once in contenders if number % 2 == 0 else reversed(contenders):
                seconds, counts[name], _ = once()
                times[name].append(seconds)
        if len(set(counts.values())) > 1:
            sys.exit(f"bench: not the same pictures: {counts}")
        return times, counts[contenders[0][0]]


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def beside(bench, title, media, works):
    contenders = [("framemill", bench.framemill(media))] + [(w, bench.python(w, media)) for w in works]
    times, count = bench.rounds(contenders)
    print(f"\n{title}: {count} pictures\n\n| contender | median s | pictures/s | framemill's speed over it |")
    print("|-----------|---------:|-----------:|---------------------------|")
    for name, own in times.items():
        ratios = [theirs / ours for ours, theirs in zip(times["framemill"], own)]
        middle = statistics.median(own)
        print(f"| {name:<9} | {middle:8.3f} | {count / middle:10.1f} | {spread(ratios):<25} |", flush=True)


def listed(folder, repeat, scratch):
    """A list of the photos of a folder, each so many times."""
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        sys.exit(f"bench: no JPEG in {folder}")
    listing = scratch / "photos.csv"
    with listing.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "id"])
        rows.writerows((path.resolve(), f"{i}-{n}") for n in range(repeat) for i, path in enumerate(paths))
    return listing


def overlap(bench, title, media):
    count = bench.framemill(media)()[1]
    contenders = [
        ("both", bench.framemill(media)),
        ("decoding", bench.framemill(media, detector=False)),
        ("detection", bench.python("alone", count)),
    ]
    times, count = bench.rounds(contenders)
    slower = [max(pair) for pair in zip(times["decoding"], times["detection"])]
    sums = [sum(pair) for pair in zip(times["decoding"], times["detection"])]
    print(f"\n{title}: {count} pictures")
    for name, own in times.items():
        print(f"{name:<9} {statistics.median(own):8.3f} s")
    print(f"both over the slower {spread([b / s for b, s in zip(times['both'], slower)])}, ", end="")
    print(f"over their sum {spread([b / s for b, s in zip(times['both'], sums)])}", flush=True)


def main():
    if sys.argv[1:2] == ["--work"]:
        name, media, model, every, threads = sys.argv[2:]
        print(json.dumps(WORKS[name](media, model, int(every), int(threads))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framemill", required=True, help="the program to measure")
    parser.add_argument("--model", required=True, help="yolox_nano.onnx")
    parser.add_argument("--photos", required=True, help="folder of JPEGs")
    parser.add_argument("--clip", help="a video of a steady rate")
    parser.add_argument("--every", type=int, default=5, help="of the video, one frame in so many")
    parser.add_argument("--fps", help="the same as a rate: the video's over --every")
    parser.add_argument("--repeat", type=int, default=4, help="how often each photo is listed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender, and cores that it may use")
    parser.add_argument("--scratch", default="/dev/shm", help="folder in memory for what is written")
    args = parser.parse_args()
    if args.clip and not args.fps:
        parser.error("--clip needs --fps")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
        print(f"cores: {len(os.sched_getaffinity(0))}, rounds: {args.rounds}, load before: {os.getloadavg()[0]:.1f}")
    scratch = Path(tempfile.mkdtemp(prefix="framemill-bench-", dir=args.scratch))
    try:
        bench = Bench(args, scratch)
        photos = listed(args.photos, args.repeat, scratch)
        beside(bench, "photos", photos, ["loop", "pool"])
        overlap(bench, "photos, overlapped", photos)
        if args.clip:
            beside(bench, "video", args.clip, ["loop"])
            overlap(bench, "video, overlapped", args.clip)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
