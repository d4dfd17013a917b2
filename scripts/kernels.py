#!/usr/bin/env python3
"""Compiles kernels/*.cu with NVRTC to what the program carries: PTX for compute capability 7.0 and machine code for 8.0 to
9.0. With --check it writes nothing and says whether the committed files are what the sources compile to.

NVRTC is CUDA 12.0's, so that every driver of CUDA 12 loads its PTX: pip install nvidia-cuda-nvrtc-cu12==12.0.140
"""

import ctypes
import glob
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILES = "params convert picture color resize blur affine passes pack rows columns".split()
TARGETS = {"compute_70": "framemill.ptx"} | {f"sm_{n}": f"framemill.sm_{n}.cubin" for n in (80, 86, 89, 90)}
VERSION = (12, 0)


def library():
    for folder in sys.path:
        for path in glob.glob(os.path.join(folder, "nvidia/cuda_nvrtc/lib/libnvrtc.so.12")):
            return ctypes.CDLL(path)
    sys.exit("kernels: NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12==12.0.140")


NVRTC = library()


def compiled(source, target):
    program = ctypes.c_void_p()
    if NVRTC.nvrtcCreateProgram(ctypes.byref(program), source, b"framemill.cu", 0, None, None):
        sys.exit("kernels: NVRTC does not start")
    options = [f"--gpu-architecture={target}".encode(), b"-std=c++17", b"-diag-suppress=177"]
    failed = NVRTC.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))

    def get(what):
        size = ctypes.c_size_t()
        getattr(NVRTC, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(NVRTC, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw

    log = get("ProgramLog").rstrip(b"\0").decode().strip()
    if failed or log:
        sys.exit(f"kernels: {target}:\n{log}")
    result = get("CUBIN") if target.startswith("sm_") else get("PTX").rstrip(b"\0")
    NVRTC.nvrtcDestroyProgram(ctypes.byref(program))
    return result


def main():
    major, minor = ctypes.c_int(), ctypes.c_int()
    NVRTC.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    if (major.value, minor.value) != VERSION:
        sys.exit(f"kernels: NVRTC is {major.value}.{minor.value}, not {VERSION[0]}.{VERSION[1]}")
    source = b""
    for name in FILES:
        with open(os.path.join(ROOT, "kernels", name + ".cu"), "rb") as file:
            source += file.read()
    other = []
    for target, name in TARGETS.items():
        path = os.path.join(ROOT, "kernels", name)
        result = compiled(source, target)
        if "--check" not in sys.argv[1:]:
            with open(path, "wb") as file:
                file.write(result)
            print(f"kernels: {name}: {len(result)} bytes")
            continue
        try:
            with open(path, "rb") as file:
                same = file.read() == result
        except FileNotFoundError:
            same = False
        if not same:
            other.append(name)
    if other:
        sys.exit(f"kernels: {', '.join(other)}: not what kernels/*.cu compile to; run scripts/kernels.py")
    if "--check" in sys.argv[1:]:
        print(f"kernels: {len(TARGETS)} images are what the sources compile to")


main()
