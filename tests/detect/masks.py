"""Compares the masks of annotations.coco.json with Ultralytics' process_mask_native on the model's outputs.

masks.py OUT MODEL plain|flipped: samples are 64 x 64, the model's input 32 x 32.
"""
import contextlib
import json
import os
import sys

import cv2
import numpy as np
import onnxruntime
from pycocotools.coco import COCO

out, model, side = sys.argv[1:]
with contextlib.redirect_stdout(sys.stderr):
    coco = COCO(os.path.join(out, "annotations.coco.json"))
objects, prototypes = onnxruntime.InferenceSession(model).run(None, {"images": np.zeros((1, 3, 32, 32), np.float32)})
objects, prototypes = objects[0], prototypes[0]
if objects.shape[1] == 21:
    rows = [(c[:4], c[4:6], c[6:]) for c in objects.T]
else:
    rows = [(r[:4], r[4] * r[5:7], r[7:]) for r in objects]
differ = pixels = shifted = count = 0
for annotation in coco.dataset["annotations"]:
    mask = coco.annToMask(annotation)
    assert annotation["area"] == mask.sum() and mask.shape == (64, 64), annotation
    (box, _, coefficients), = [r for r in rows if r[1].argmax() == annotation["category_id"] - 1 and r[1].max() > 0.3]
    logits = cv2.resize(np.tensordot(coefficients, prototypes, 1), (64, 64), interpolation=cv2.INTER_LINEAR)
    (cx, cy, w, h), (y, x) = 2 * box, np.mgrid[:64, :64]
    inside = (x >= cx - w / 2) & (x < cx + w / 2) & (y >= cy - h / 2) & (y < cy + h / 2)
    expected = (logits > 0) & inside
    if side == "flipped":
        expected, logits = expected[:, ::-1], logits[:, ::-1]
    # What is on the very border may round either way.
    sure = np.abs(logits) > 1e-5
    differ += int(((mask != expected) & sure).sum())
    shifted += int((np.roll(mask, 1, 1) != expected).sum())
    pixels += int(expected.sum())
    count += 1
print(json.dumps({"objects": count, "differ": differ, "pixels": pixels, "shifted": shifted}))
