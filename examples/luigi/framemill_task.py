"""A dataset made by framemill as a task of Luigi.

    python -m luigi --module framemill_task Dataset --local-scheduler --input-uri /data/videos --output-folder /data/out

It is complete when `dataset.json` is there, which framemill writes last. Luigi's own retries do not know exit codes: what
is worth trying again is tried here, everything else fails the task.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import luigi

FRAMEMILL = os.environ.get("FRAMEMILL", "framemill")
# Interrupted; the store failed.
AGAIN = {75, 74}


class FramemillError(Exception):
    def __init__(self, code: int, printed: str):
        super().__init__(f"framemill ended with {code}: {printed[-2000:]}")
        self.code = code


class Dataset(luigi.Task):
    input_uri = luigi.Parameter()
    output_folder = luigi.Parameter()
    arguments = luigi.ListParameter(default=["--every", "1s", "--op", "resize:short=256"])
    attempts = luigi.IntParameter(default=5)
    pause = luigi.FloatParameter(default=5.0)

    def output(self):
        return luigi.LocalTarget(str(Path(self.output_folder) / "dataset.json"))

    def run(self):
        for attempt in range(1, self.attempts + 1):
            code, printed = self.once()
            if code == 0:
                report = json.loads(printed.splitlines()[-1])
                self.set_status_message(f"{report['samples']} samples, {report['inputs']['rejected']} inputs rejected")
                return
            # 3 is a matter of the data, 2, 69 and 78 of the configuration: no retry helps.
            if code not in AGAIN or attempt == self.attempts:
                raise FramemillError(code, printed)
            time.sleep(self.pause)

    def once(self):
        command = [FRAMEMILL, "run", "--json", "-i", self.input_uri, "-o", self.output_folder, *self.arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            printed, _ = process.communicate()
        except BaseException:
            # The worker is stopped: what framemill has begun may end.
            process.terminate()
            process.wait(timeout=40)
            raise
        return process.returncode, printed
