"""PQ and HLG to SDR BT.709 in real numbers, with NumPy, from ITU-R BT.2100, BT.2390 (5.4.1), BT.2408 and BT.1886.

Arguments: transfer (pq, hlg), curve (bt2390, clip), peak. Reads planar Y, Cb, Cr (4:4:4, 10 bit, limited range, BT.2020)
from standard input; writes R, G, B of each pixel as f64, 0 to 255.
"""

import sys

import numpy as np

transfer, curve, peak = sys.argv[1], sys.argv[2], float(sys.argv[3])
y, cb, cr = np.frombuffer(sys.stdin.buffer.read(), dtype="<u2").astype(np.float64).reshape(3, -1)
y, cb, cr = (y - 64) / 876, (cb - 512) / 896, (cr - 512) / 896
r, b = y + 1.4746 * cr, y + 1.8814 * cb
signal = np.clip(np.stack([r, (y - 0.2627 * r - 0.0593 * b) / 0.6780, b]), 0, 1)

m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875


def eotf(e):
    p = e ** (1 / m2)
    return 10000 * (np.maximum(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1)


def inverse_eotf(light):
    p = (light / 10000) ** m1
    return ((c1 + c2 * p) / (1 + c3 * p)) ** m2


if transfer == "pq":
    light = eotf(signal)
else:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    light = 1000 * scene * np.maximum(luminance, 1e-12) ** 0.2

if curve == "bt2390":
    brightest = light.max(0)
    e1 = np.minimum(inverse_eotf(brightest) / inverse_eotf(peak), 1)
    max_lum = inverse_eotf(203.0) / inverse_eotf(peak)
    ks = 1.5 * max_lum - 0.5
    t = (e1 - ks) / (1 - ks)
    spline = (2 * t**3 - 3 * t**2 + 1) * ks + (t**3 - 2 * t**2 + t) * (1 - ks) + (-2 * t**3 + 3 * t**2) * max_lum
    e2 = np.where(e1 < ks, e1, spline)
    light = light * eotf(e2 * inverse_eotf(peak)) / np.maximum(brightest, 1e-9)

to_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
sdr = np.clip(to_709 @ (light / 203), 0, 1) ** (1 / 2.4) * 255
sys.stdout.buffer.write(sdr.T.astype("<f8").tobytes())
