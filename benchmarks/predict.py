"""Rows a second and memory of `predict` on a long input: `python -m benchmarks.predict`.

The engine answers at once, so what is measured is everything else: reading, retrieval, prompts, checks, threads,
writing. The rows are different persona users (synthetic).
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import dspy

from benchmarks.instant import Citing
from programs.data.personas import films
from programs.data.personas.world import draw, lamp_files
from programs.predict.run import predict
from programs.predict.writer import PredictionWriter
from programs.tasks import lamp2
from programs.tasks.program import r2p


def main(rows: int = 10_000) -> None:
    task, folder = lamp2.TASK, Path(tempfile.mkdtemp())
    source, target = folder / "users.jsonl", folder / "predictions.jsonl"
    with source.open("w") as file:
        for row in lamp_files(task, draw(films.case, "train", rows))[0]:
            print(json.dumps(row), file=file)
    lm = dspy.LM("instant/citing", engine=Citing(), cache=False, num_retries=0)
    started, computed = time.perf_counter(), time.process_time()
    with dspy.context(lm=lm), PredictionWriter(target, {"input": ""}, source) as settled:
        predict(r2p(task, on_unmet="return"), task, source, settled)
    seconds, computed = time.perf_counter() - started, time.process_time() - computed
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    written = [json.loads(line) for line in target.open()]
    calls = sum(row["usage"]["calls"] for row in written)
    print(f"{len(written)} of {rows} rows answered in {calls} calls, {settled.failed} failed")
    print(f"{seconds:.0f} s, of which this process computed {computed:.0f} s ({rows / computed:.0f} rows a second)")
    rate = rows / seconds
    print(f"{'met   ' if rate >= 200 else 'MISSED'} at least 200 rows a second: {rate:.0f}")
    print(f"{'met   ' if peak < 500 else 'MISSED'} under 500 MB: {peak:.0f} MB")


if __name__ == "__main__":
    main()
