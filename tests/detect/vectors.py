"""Compares embeddings of objects with those that the model gives of parts that Pillow cuts and resizes.

vectors.py OUT MODEL: prints how many there are, the largest difference as a share of a vector's largest value, and the least
difference where the part lies eight pixels off.
"""
import glob
import json
import math
import os
import sys

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
from PIL import Image, ImageOps

out, model = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
name = session.get_inputs()[0].name


def vector(picture, box):
    part = picture.crop(box).resize((128, 256), Image.Resampling.BILINEAR)
    return session.run(None, {name: np.asarray(part, np.float32)[None, :, :, ::-1]})[0][0]


count, worst, least = 0, 0.0, math.inf
for table in sorted(glob.glob(os.path.join(out, "shard-*.parquet"))):
    for row in pq.read_table(table).to_pylist():
        picture = ImageOps.exif_transpose(Image.open(row["uri"])).convert("RGB")
        for found in row["detections"]:
            if found["embedding"] is None:
                continue
            assert found["source_box"] == row["detections"][found["of"]]["source_box"], row
            x1, y1, x2, y2 = found["source_box"]
            box = (math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2))
            expected, got = vector(picture, box), np.array(found["embedding"])
            off = vector(picture, (box[0] + 8, box[1], box[2] + 8, box[3]))
            largest = np.abs(expected).max()
            worst = max(worst, float(np.abs(got - expected).max() / largest))
            least = min(least, float(np.abs(got - off).max() / largest))
            count += 1
print(json.dumps({"vectors": count, "worst": worst, "control": least}))
