"""Predictions on Ray: the same answers, speed, kills and a lost node: `python -m benchmarks.ray [--scale 50] [NAME…]`.

The rows are persona users (synthetic). Everything runs on this machine: Ray's nodes are processes. With `--scale 50`
there are so many times fewer rows, and fewer kills.

same    the pocket model answers rows with and without Ray: the files must be equal.
speed   an engine answers at once, so what is measured is everything else; two workers against the local path.
kills   workers are killed (SIGKILL) at random moments, then the command itself, which is resumed.
nodes   four nodes of one CPU each, one of which is removed in the middle.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import psutil

from benchmarks.answering import citing, write_rows
from benchmarks.instant import InstantModel
from programs.predict.run import Predicted, run_predict
from programs.runs.configs import PredictConfig
from programs.runs.reporter import Reporter
from tests.faulty import FaultyServer

WORKERS, THREADS = 2, 16
_SECONDS = 0.2  # until the server of `kills` and the engine of `nodes` answer
_EVERY = 8.0  # seconds between two kills: a worker needs some to be replaced


def main(scale: int, names: tuple[str, ...]) -> None:
    parts: dict[str, Callable[[int, Path], None]] = {"same": same, "speed": speed, "kills": kills, "nodes": nodes}
    for name in names or parts:
        with tempfile.TemporaryDirectory() as folder:
            parts[name](scale, Path(folder))


def same(scale: int, folder: Path) -> None:
    source = write_rows(folder / "rows.jsonl", 2000 // scale)
    alone, _ = answered(config(source, folder / "alone.jsonl", model="pocket"))
    spread, _ = answered(config(source, folder / "out", model="pocket", ray="local", partition_rows=200 // scale or 1))
    say(whole(folder / "out") == (folder / "alone.jsonl").read_bytes(), "the same answers as without Ray", spread)
    assert alone.answered + alone.failed == spread.answered + spread.failed


def speed(scale: int, folder: Path) -> None:
    rows = 100_000 // scale
    source = write_rows(folder / "rows.jsonl", rows)
    plain = replace(config(source, folder / "alone.jsonl"), model=InstantModel(), cache=False)
    _, alone = answered(plain)
    spread = replace(
        plain, target=folder / "out", ray="local", ray_workers=WORKERS, partition_rows=max(1000 // scale, 20)
    )
    with watched() as most:
        _, took = answered(spread)
    reported = json.loads((folder / "out" / "report.json").read_text())["seconds"]
    share = alone / (WORKERS * reported)
    print(
        f"{rows} rows: {rows / alone:.0f} a second without Ray, {rows / reported:.0f} with {WORKERS} workers", end="; "
    )
    print(f"{took:.0f} s in all, {took - reported:.0f} s of them to start and to look at the nodes")
    say(share >= 0.8, f"at least 0.8 times the local speed for each worker: {share:.2f}")
    say(most[0] < 600, f"under 600 MB for each worker: {most[0]:.0f} MB")


def kills(scale: int, folder: Path) -> None:
    rows, wanted, restarts = 20_000 // scale, max(20 // scale, 3), 3
    source = write_rows(folder / "rows.jsonl", rows)
    with FaultyServer(text=after(_SECONDS * min(scale, 5))) as server:  # else few rows are done before the first kill
        command = [sys.executable, "cli.py", "predict", "--model", "openai/m", "--api-base", server.api_base]
        command += ["--input", str(source), "--num-threads", str(THREADS), "--lm", "num_retries=0"]
        alone = folder / "alone.jsonl"
        environment = {**os.environ, "OPENAI_API_KEY": "none"}
        subprocess.run([*command, "--output", str(alone)], check=True, env=environment, capture_output=True)
        before = len(server.requests)
        target = folder / "out"
        command += ["--output", str(target), "--ray", "--ray-workers", str(WORKERS)]
        command += ["--partition-rows", str(max(rows // 40, 5))]
        killed, drivers = 0, 0
        while True:
            resume = ["--resume"] if (target / "config.json").exists() else []
            with (folder / "log").open("ab") as log:
                driver = subprocess.Popen([*command, *resume], stdout=log, stderr=log, env=environment)
            while driver.poll() is None:
                time.sleep(random.uniform(0.5, 1.5) * _EVERY)
                here = workers()
                if here and drivers < restarts and killed >= wanted * (drivers + 1) // (restarts + 1):
                    driver.send_signal(signal.SIGKILL)
                    drivers += 1
                    gone()
                elif here and killed < wanted:
                    psutil.Process(random.choice(here)).kill()
                    killed += 1
            if driver.returncode != -signal.SIGKILL:
                break
        again = len(server.requests) - 2 * before
    print(f"{killed} workers and {drivers} drivers killed; {again} calls were made again")
    if driver.returncode not in (0, 3):
        print((folder / "log").read_text()[-2000:])
    say(driver.returncode in (0, 3), f"the run ended (exit code {driver.returncode})")
    say(whole(target) == alone.read_bytes(), "no row lost or doubled")
    most = killed * THREADS + drivers * WORKERS * THREADS
    say(again <= most, f"no more calls again than were in flight ({most})")


def nodes(scale: int, folder: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    source = write_rows(folder / "rows.jsonl", 20_000 // scale)
    plain = replace(config(source, folder / "alone.jsonl"), model=InstantModel())
    answered(plain)
    small = {"object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        added = [cluster.add_node(num_cpus=1, **small) for _ in range(4)]
        cluster.wait_for_nodes()
        target = folder / "out"
        removing = threading.Thread(target=remove_in_the_middle, args=(cluster, added[1], target), daemon=True)
        removing.start()
        slow = replace(plain, target=target, model=InstantModel(seconds=_SECONDS), ray=cluster.address)
        spread, took = answered(replace(slow, partition_rows=max(500 // scale, 5)))
        removing.join()
        say(whole(target) == (folder / "alone.jsonl").read_bytes(), f"the same output, in {took:.0f} s", spread)
    finally:
        ray.shutdown()
        cluster.shutdown()


def remove_in_the_middle(cluster: object, node: object, target: Path) -> None:
    """Remove a node of a cluster once two partitions are done."""
    while True:
        files = [*target.glob("answers/part-?????.jsonl")]
        done = [*target.glob("answers/*.done.json")]
        if len(done) >= 2:
            print(f"a node is removed when {len(done)} partitions are done and {len(files) - len(done)} are under way")
            cluster.remove_node(node, allow_graceful=False)
            return
        time.sleep(0.05)


def config(source: Path, target: Path, **options: object) -> PredictConfig:
    return PredictConfig.of(source, target, task="lamp2", num_threads=THREADS, **options)


def answered(options: PredictConfig) -> tuple[Predicted, float]:
    """What has become of the rows, and the seconds that it took."""
    started = time.perf_counter()
    return run_predict(options, False, Reporter()), time.perf_counter() - started


def after(seconds: float) -> Callable[[dict], str]:
    """What a server answers after some seconds."""

    def reply(body: dict) -> str:
        time.sleep(seconds)
        return citing(body)

    return reply


def whole(directory: Path) -> bytes:
    """The answers of all partitions of a run."""
    return b"".join(path.read_bytes() for path in sorted(directory.glob("answers/part-?????.jsonl")))


def workers() -> list[int]:
    """The process ids of the workers that answer."""
    processes = psutil.process_iter(["cmdline"])
    return [process.pid for process in processes if "ray::MapWorker" in " ".join(process.info["cmdline"] or ())]


def gone() -> None:
    """Wait until the processes of a killed driver's Ray have ended."""
    until = time.monotonic() + 60
    while workers() and time.monotonic() < until:
        time.sleep(0.1)


@contextmanager
def watched() -> Iterator[list[float]]:
    """The most memory of a worker in the block, in MB."""
    most, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for pid in workers():
                try:
                    most[0] = max(most[0], psutil.Process(pid).memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def say(met: bool, what: str, done: Predicted | None = None) -> None:
    counts = "" if done is None else f" ({done.answered} answered, {done.failed} failed)"
    print(f"{'met   ' if met else 'MISSED'} {what}{counts}", flush=True)


@click.command()
@click.option("--scale", default=1, help="Have so many times fewer rows.")
@click.argument("names", nargs=-1, type=click.Choice(["same", "speed", "kills", "nodes"]))
def command(scale: int, names: tuple[str, ...]) -> None:
    main(scale, names)


if __name__ == "__main__":
    command()
