"""Times what framemill's decoding costs: sparse frames, key frames, long clips, thousands of short ones.

Called by scripts/bench.sh --only decode; the harness is peers.py's. Inputs are made by FFmpeg. A ratio is a contender's speed
over that of its section's first row; the text below a table gives the times that the project's aims are told in.
"""

import subprocess
import sys
import time
from pathlib import Path

import peers

#: Files of the section on short clips, and how many different ones there are.
SHORT_CLIPS = 2000
KINDS = 40
SIDE = 224


def frames_by(reader, clip, indices):
    """The frames at `indices` by another program; the seconds it took."""
    wanted = [int(i) for i in Path(indices).read_text().split()]
    begun = time.perf_counter()
    count = reader(clip, wanted)
    return time.perf_counter() - begun, count


def decord(clip, indices, threads):
    from decord import VideoReader, cpu

    def read(clip, wanted):
        reader = VideoReader(clip, ctx=cpu(0), width=SIDE, height=SIDE, num_threads=threads)
        return len(reader.get_batch(wanted).asnumpy())

    return frames_by(read, clip, indices)


def pyav(clip, indices, threads):
    """Seeks to the key frame before each wanted frame, where it has to."""
    import av

    def read(clip, wanted):
        count = 0
        with av.open(clip) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            rate, base = stream.average_rate, stream.time_base
            for index in wanted:
                target = int(index / rate / base)
                container.seek(target, stream=stream)
                frame = next(f for f in container.decode(stream) if f.pts >= target)
                frame.reformat(SIDE, SIDE, "rgb24").to_ndarray()
                count += 1
        return count

    return frames_by(read, clip, indices)


def torchcodec(clip, indices, threads):
    from torchcodec.decoders import VideoDecoder

    def read(clip, wanted):
        reader = VideoDecoder(clip, num_ffmpeg_threads=threads, seek_mode="exact")
        return len(reader.get_frames_at(wanted).data)

    return frames_by(read, clip, indices)


peers.WORKS.update({"decord-at": decord, "pyav-at": pyav, "torchcodec-at": torchcodec})


def there(module):
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


def middle(times):
    return sorted(times)[len(times) // 2]


class Bench(peers.Bench):
    script = __file__

    def libav(self, listing):
        program = self.scratch / "libav"
        if not program.exists():
            libraries = ["libavformat", "libavcodec", "libavutil"]
            flags = peers.run(["pkg-config", "--cflags", "--libs", *libraries]).split()
            peers.run(["cc", "-O2", "-o", program, Path(__file__).with_name("libav.c"), *flags])
        return self.program(str(program), str(self.args.threads), str(listing))

    def ratio(self, times, own, other, what):
        pairs = [a / b for a, b in zip(times[own], times[other])]
        print(f"\n{what}: {middle(pairs):.3f} ({min(pairs):.3f}..{max(pairs):.3f})")


def make(path, seconds, size="1920x1080", group=50, seed=0, b_frames=2):
    """A clip with motion and noise and a key frame every `group` frames, 25 a second."""
    source = f"testsrc2=s={size}:r=25:d={seconds}[a];mandelbrot=s={size}:r=25:start_scale={3 - seed / 50}[b];"
    source += "[a][b]blend=all_mode=average:shortest=1,noise=alls=6:allf=t,format=yuv420p[v]"
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "6M", "-g", str(group), "-keyint_min", str(group)]
    rest = ["-sc_threshold", "0", "-bf", str(b_frames), "-t", str(seconds), str(path)]
    ffmpeg = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-filter_complex"]
    peers.run([*ffmpeg, source, "-map", "[v]", *encoder, *rest])


def longer(clip, path, times):
    loop = ["-stream_loop", str(times - 1), "-i", str(clip)]
    peers.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *loop, "-c", "copy", str(path)])


def sparse(bench, clip, seconds):
    resize = ("--op", f"resize:w={SIDE},h={SIDE}")
    indices = bench.scratch / "indices"
    indices.write_text(" ".join(str(i * 25) for i in range(seconds)))
    contenders = [
        ("needed packets only, PyAV", bench.python("only", clip, "every")),
        ("framemill --every 1s", bench.framemill("every", "-i", clip, "--every", "1s", *resize)),
        ("decord get_batch", bench.python("decord-at", clip, indices)),
        ("PyAV seek", bench.python("pyav-at", clip, indices)),
    ]
    if there("torchcodec"):
        contenders.append(("torchcodec", bench.python("torchcodec-at", clip, indices)))
    times = bench.section(f"(d) --every 1s from {seconds} s of 1080p, a key frame every 2 s", contenders)
    bench.ratio(times, "framemill --every 1s", "decord get_batch", "framemill's time over decord's (aim: 0.62)")
    bench.ratio(times, "framemill --every 1s", contenders[0][0], "over decoding just the needed packets (aim: 1.15)")
    contenders = [
        ("framemill --all", bench.framemill("all", "-i", clip, "--all", *resize)),
        ("framemill --keyframes", bench.framemill("keys", "-i", clip, "--keyframes", *resize)),
        ("ffmpeg -f null", bench.ffmpeg((), clip, "-map", "0:v:0", "-f", "null", "-")),
    ]
    times = bench.section("(d) key frames alone", contenders)
    bench.ratio(times, "framemill --keyframes", "ffmpeg -f null", "key frames' time over a full decode's (aim: 0.12)")


def long(bench, clip, seconds):
    # Without B-frames a clip repeats without a gap, so that the same times need as many packets in all of them.
    make(clip, seconds, b_frames=0)
    contenders, length = [], {}
    for times in (1, 4, 16):
        path = bench.scratch / f"long-{times}.mp4"
        longer(clip, path, times)
        name = f"{seconds * times} s, --every {10 * times}s"
        flags = ("-i", path, "--every", f"{10 * times}s", "--op", f"resize:w={SIDE},h={SIDE}")
        contenders.append((name, bench.framemill(name, *flags)))
        length[name] = times
    path = bench.scratch / "long-16.mp4"
    flags = ("-i", path, "--every", "10s", "--op", f"resize:w={SIDE},h={SIDE}")
    contenders.append((f"{seconds * 16} s, --every 10s", bench.framemill("many", *flags)))
    times = bench.section("(d) the same number of samples from longer clips, then sixteen times as many", contenders)
    first, last, many = contenders[0][0], contenders[2][0], contenders[3][0]
    fed = [bench.notes[name]["this_run"]["packets_fed"] for name in length]
    print(f"\npackets fed, by length: {fed}")
    bench.ratio(times, last, first, "time for as many samples of a clip sixteen times as long")
    bench.ratio(times, many, first, "time for sixteen times as many samples")


def short(bench):
    folder = bench.scratch / "clips"
    folder.mkdir()
    for i in range(KINDS):
        make(folder / f"{i}.mp4", 2, "426x240", 50, i)
    paths = [folder / f"{i % KINDS}.mp4" for i in range(SHORT_CLIPS)]
    plain, listing = bench.scratch / "short.txt", bench.scratch / "short.csv"
    plain.write_text("".join(f"{p}\n" for p in paths))
    listing.write_text("uri,id\n" + "".join(f"{p},{i}\n" for i, p in enumerate(paths)))
    # The last frame needs all that is before it: everything is decoded, and little comes out.
    flags = ("-i", listing, "--id-column", "id", "--at", "1.96", "--op", "resize:w=64,h=64")
    contenders = [
        ("libav, opening and decoding", bench.libav(plain)),
        ("framemill", bench.framemill("short", *flags)),
    ]
    times = bench.section(f"(d) {SHORT_CLIPS} clips of 2 s, 240p, every frame decoded", contenders)
    bench.ratio(times, "framemill", contenders[0][0], "framemill's time over libav's (aim: 1.2)")
    frames = bench.notes["short"]["frames"]
    print(f"framemill's report: packets {frames['packets']}, decoded {frames['decoded']}, samples {SHORT_CLIPS}")


def main(args, scratch):
    bench = Bench(args, scratch)
    seconds = 60
    clip = scratch / "sparse.mp4"
    make(clip, seconds)
    sparse(bench, clip, seconds)
    long(bench, scratch / "plain.mp4", seconds)
    short(bench)
    return bench


if __name__ == "__main__":
    peers.main()
