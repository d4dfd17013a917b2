"""A dataset made by framemill as an asset of Dagster.

    dagster dev -f framemill_asset.py

framemill speaks Dagster Pipes: it logs how far it is, and reports the materialisation itself, with the number of samples
and rejected inputs, the fingerprint of the job, and a digest of the dataset as its data version.
"""

import os
import re

import dagster as dg

FRAMEMILL = os.environ.get("FRAMEMILL", "framemill")
# Interrupted; the store failed.
AGAIN = {75, 74}


class Job(dg.Config):
    input: str = "/data/videos"
    output: str = "/data/dataset"
    arguments: list[str] = ["--every", "1s", "--op", "resize:short=256"]


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=5, delay=5))
def dataset(context: dg.AssetExecutionContext, config: Job, pipes: dg.PipesSubprocessClient):
    command = [FRAMEMILL, "run", "-i", config.input, "-o", config.output, *config.arguments]
    try:
        return pipes.run(command=command, context=context).get_materialize_result()
    except Exception as error:
        # Dagster names this error nowhere in public, and tells the code in its message alone.
        told = re.search(r"failed with code (-?\d+)", str(error))
        if told is None:
            raise
        code = int(told[1])
        # 3 is a matter of the data, 2, 69 and 78 of the configuration: no retry helps.
        raise dg.Failure(f"framemill ended with {code}", allow_retries=code in AGAIN) from error


# Longer than framemill's own --grace.
defs = dg.Definitions(
    assets=[dataset], resources={"pipes": dg.PipesSubprocessClient(termination_timeout_seconds=40)}
)
