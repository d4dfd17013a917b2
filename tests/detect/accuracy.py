"""Mean average precision of annotations.coco.json against YOLO labels, by pycocotools.

accuracy.py ANNOTATIONS LABELS: LABELS is a folder of NAME.txt (class cx cy w h, normalised). Prints mAP50-95 and mAP50. The
picture that a sample was made of is found by its record's uri in the shards' tables.
"""
import contextlib
import glob
import json
import os
import sys

import pyarrow.parquet as pq
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

out, labels = sys.argv[1:]
with contextlib.redirect_stdout(sys.stderr):
    loaded = COCO(os.path.join(out, "annotations.coco.json"))
rows = [row for table in sorted(glob.glob(os.path.join(out, "shard-*.parquet"))) for row in pq.read_table(table).to_pylist()]
images = loaded.dataset["images"]
assert [os.path.splitext(os.path.basename(i["file_name"]))[0] for i in images] == [row["key"] for row in rows]
truth = []
for image, row in zip(images, rows):
    w, h = image["width"], image["height"]
    name = os.path.splitext(os.path.basename(row["uri"]))[0]
    path = os.path.join(labels, name + ".txt")
    # A picture without objects has no file.
    for line in open(path) if os.path.exists(path) else ():
        c, cx, cy, bw, bh = map(float, line.split())
        box = [(cx - bw / 2) * w, (cy - bh / 2) * h, bw * w, bh * h]
        truth.append({"id": len(truth) + 1, "image_id": image["id"], "category_id": int(c) + 1, "bbox": box,
                      "area": box[2] * box[3], "iscrowd": 0})
with contextlib.redirect_stdout(sys.stderr):
    gt = COCO()
    gt.dataset = {"images": images, "categories": loaded.dataset["categories"], "annotations": truth}
    gt.createIndex()
    if not loaded.dataset["annotations"]:
        # pycocotools fails on nothing.
        loaded.dataset["annotations"] = [dict(truth[0], score=0.0, bbox=[0, 0, 0, 0])]
    dt = gt.loadRes([dict(a) for a in loaded.dataset["annotations"]])
    ev = COCOeval(gt, dt, "bbox")
    ev.evaluate()
    ev.accumulate()
    ev.summarize()
print(json.dumps({"pictures": len(images), "objects": len(truth), "map": ev.stats[0], "map50": ev.stats[1]}))
