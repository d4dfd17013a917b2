"""A dataset made by framemill as a flow of Prefect 3.

    python framemill_flow.py INPUT OUTPUT [ARGUMENT...]
"""

import json
import os
import subprocess
import sys

from prefect import flow, get_run_logger, task

FRAMEMILL = os.environ.get("FRAMEMILL", "framemill")
# Interrupted; the store failed.
AGAIN = {75, 74}


class FramemillError(Exception):
    def __init__(self, code: int, printed: str):
        super().__init__(f"framemill ended with {code}: {printed[-2000:]}")
        self.code = code


def worth_it(task, run, state) -> bool:
    """3 is a matter of the data, 2, 69 and 78 of the configuration: no retry helps."""
    try:
        state.result()
    except FramemillError as error:
        return error.code in AGAIN
    except Exception:
        return True
    return False


@task(retries=5, retry_delay_seconds=5, retry_condition_fn=worth_it)
def make_dataset(input: str, output: str, arguments: list[str]) -> dict:
    command = [FRAMEMILL, "run", "--json", "-i", input, "-o", output, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        printed, _ = process.communicate()
    except BaseException:
        # The flow is cancelled: what framemill has begun may end.
        process.terminate()
        process.wait(timeout=40)
        raise
    if process.returncode != 0:
        raise FramemillError(process.returncode, printed)
    return json.loads(printed.splitlines()[-1])


@flow(name="framemill")
def dataset(input: str = "/data/videos", output: str = "/data/dataset", arguments: list[str] = ["--every", "1s"]) -> dict:
    report = make_dataset(input, output, arguments)
    get_run_logger().info(f"{report['samples']} samples in {output}, {report['inputs']['rejected']} inputs rejected")
    return {"output": output, "samples": report["samples"], "fingerprint": report["fingerprint"]}


if __name__ == "__main__":
    print(json.dumps(dataset(sys.argv[1], sys.argv[2], sys.argv[3:])))
