"""A dataset made by framemill as one task of an Airflow DAG (Airflow 3).

Trigger it with its own parameters:

    airflow dags trigger framemill --conf '{"input": "/data/videos", "output": "/data/out"}'

The task's result (XCom) is a small summary. Interrupted runs are retried and resume; what trying again cannot help fails
at once. With a BashOperator instead, the last line of `framemill run --json` is the XCom, and every failure is retried.
"""

import json
import os
import subprocess
from datetime import timedelta

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

FRAMEMILL = os.environ.get("FRAMEMILL", "framemill")
# Interrupted; the store failed.
AGAIN = {75, 74}


@task(retries=5, retry_delay=timedelta(seconds=5))
def make_dataset(params=None) -> dict:
    # Airflow puts the run's parameters in.
    command = [FRAMEMILL, "run", "--json", "-i", params["input"], "-o", params["output"], *params["arguments"]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        printed, _ = process.communicate()
    except BaseException:
        # The task is stopped: what framemill has begun may end.
        process.terminate()
        process.wait(timeout=40)
        raise
    told = json.loads(printed.splitlines()[-1])
    if process.returncode in AGAIN:
        raise AirflowException(f"framemill ended with {process.returncode} and will go on: {printed[-2000:]}")
    if process.returncode != 0:
        # 3 is a matter of the data, 2, 69 and 78 of the configuration: no retry helps.
        raise AirflowFailException(f"framemill ended with {process.returncode}: {printed[-2000:]}")
    return {
        "output": params["output"],
        "samples": told["samples"],
        "inputs": told["inputs"],
        "fingerprint": told["fingerprint"],
    }


@dag(
    schedule=None,
    params={
        "input": Param("/data/videos", type="string"),
        "output": Param("/data/dataset", type="string"),
        "arguments": Param(["--every", "1s", "--op", "resize:short=256"], type="array"),
    },
)
def framemill():
    make_dataset()


dag_object = framemill()

if __name__ == "__main__":
    # A run in this very process, for trying it: python framemill_dag.py INPUT OUTPUT [ARGUMENT...]
    import sys

    run = dag_object.test(run_conf={"input": sys.argv[1], "output": sys.argv[2], "arguments": sys.argv[3:]})
    print(run.state)
    sys.exit(0 if run.state == "success" else 1)
