"""What `cli.py serve` bears: `python -m benchmarks.serve [load] [soak] [kills] --minutes 10 --kills 100`.

All on this machine, with an engine that answers at once, a store in SQLite with 50 persona users (synthetic) of 20
items each, and the task lamp2. `load`: requests per second with 64 in flight; and what HTTP adds to a call, one after
another, over the same call in process. `soak`: 64 in flight, of which 5 % are cut, with 1 % of the engine's calls
failing; memory, threads and descriptors before and after. `kills`: SIGKILL while items and feedback are written;
everything that was acknowledged must be there.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import dspy

from benchmarks.serving import PROGRAM, Client, Running, instant_lm, service
from programs.data.personas import films
from programs.data.personas.world import draw, lamp_files
from programs.feedback.answers import Answers
from programs.tasks import lamp2
from programs.tasks.program import r2p
from r2p_dspy.stores import open_store

IN_FLIGHT, USERS = 64, 50
_WARM = 300  # requests before anything is measured
_THREADS = 24  # beside one for each call: for the store, answers, and what the libraries start


def filled(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """A store of persona users, and requests of theirs."""
    url = f"sqlite:///{folder / 'histories.sqlite'}"
    rows = lamp_files(lamp2.TASK, draw(films.case, "train", USERS))[0]
    store = open_store(url)
    for number, row in enumerate(rows):
        items = [
            {"id": item["id"], "description": item["description"], "label": item["tag"]} for item in row["profile"]
        ]
        store.append(f"user{number}", items[:20])
    store.close()
    questions = [lamp2.TASK.query(row["input"]) for row in rows]
    return url, [{"inputs": {"description": text}, "user": f"user{n}"} for n, text in enumerate(questions)]


async def in_flight(port: int, requests: list[dict[str, Any]], seconds: float, cut: float = 0.0) -> Counter[int]:
    """Keep 64 requests in flight for a time; the statuses of the responses, 0 for a cut connection."""
    ends, statuses, drawn = time.monotonic() + seconds, Counter[int](), random.Random(1)

    async def ask() -> None:
        client = Client(port)
        while time.monotonic() < ends:
            cuts = drawn.random() * 0.2 if drawn.random() < cut else None
            status, _ = await client.ask(PROGRAM, drawn.choice(requests), cuts)
            statuses[status] += 1
        client.close()

    await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
    return statuses


async def one_by_one(port: int, requests: list[dict[str, Any]], count: int) -> list[float]:
    """Milliseconds of requests that are asked one after another."""
    client, spent = Client(port), []
    for number in range(count):
        begun = time.perf_counter()
        await client.ask(PROGRAM, requests[number % len(requests)])
        spent.append(1000 * (time.perf_counter() - begun))
    client.close()
    return spent


def in_process(url: str, requests: list[dict[str, Any]], count: int) -> list[float]:
    """Milliseconds of the same calls without HTTP."""
    program, spent = r2p(lamp2.TASK, on_unmet="return"), []
    program.store = open_store(url)

    async def calls() -> None:
        for number in range(count):
            request = requests[number % len(requests)]
            begun = time.perf_counter()
            await program.acall(**request["inputs"], user=request["user"])
            spent.append(1000 * (time.perf_counter() - begun))

    with dspy.context(lm=instant_lm(), trace=None, disable_history=True):
        asyncio.run(calls())
    return spent


def load(folder: Path, seconds: float) -> None:
    """Measure requests per second, and what HTTP adds to a call."""
    url, requests = filled(folder)
    with service(url) as running:
        asyncio.run(one_by_one(running.port, requests, _WARM))
        begun = time.monotonic()
        statuses = asyncio.run(in_flight(running.port, requests, seconds))
        rate = statuses[200] / (time.monotonic() - begun)
        through = asyncio.run(one_by_one(running.port, requests, 2000))
    direct = in_process(url, requests, 2000 + _WARM)[_WARM:]
    added = [percentile(through, share) - percentile(direct, share) for share in (50, 99)]
    verdict(rate >= 300, f"{rate:.0f} requests/s with {IN_FLIGHT} in flight (goal 300); statuses {dict(statuses)}")
    verdict(
        added[0] <= 5, f"HTTP adds {added[0]:.1f} ms to the median call of {statistics.median(direct):.1f} ms (goal 5)"
    )
    verdict(added[1] <= 25, f"HTTP adds {added[1]:.1f} ms at the 99th percentile (goal 25)")


def soak(folder: Path, minutes: float) -> None:
    """Keep a service busy with faults and cut connections."""
    url, requests = filled(folder)
    with service(url, faults=0.01) as running:
        asyncio.run(in_flight(running.port, requests, max(5, minutes * 6), cut=0.05))
        before, totals, ends = running.resources(), Counter[int](), time.monotonic() + 60 * minutes
        while time.monotonic() < ends:
            totals += asyncio.run(in_flight(running.port, requests, min(30, 60 * minutes), cut=0.05))
            print(resources(running), flush=True)
        time.sleep(1)
        after = running.resources()
    print(f"{sum(totals.values()):,} requests, by status (0: cut): {dict(totals)}")
    verdict(totals.keys() <= {0, 200, 429, 502}, "every request was answered, refused clearly, or cut")
    verdict(after[0] - before[0] < 30, f"memory grew by {after[0] - before[0]:.1f} MB from {before[0]:.0f} MB")
    verdict(after[1] <= IN_FLIGHT + _THREADS, f"threads: {after[1]} (at most {IN_FLIGHT + _THREADS})")
    verdict(after[2] <= before[2], f"descriptors: {before[2]}, then {after[2]}")


def resources(running: Running) -> str:
    megabytes, threads, descriptors = running.resources()
    return f"{megabytes:.0f} MB, {threads} threads, {descriptors} descriptors"


async def write(port: int, requests: list[dict[str, Any]], kept: dict[str, set[str]]) -> None:
    """Append items, ask, and give feedback, until the service is gone; what was acknowledged goes to `kept`."""

    async def one(number: int) -> None:
        client, drawn = Client(port), random.Random(number)
        try:
            while True:
                item = {"id": f"{drawn.getrandbits(64):x}", "description": "A storm.", "label": "action"}
                status, _ = await client.ask(f"/v1/users/writer{number}/items", {"items": [item]})
                kept["items"] |= {f"writer{number}/{item['id']}"} if status == 201 else set()
                status, answer = await client.ask(PROGRAM, drawn.choice(requests))
                if status == 200:
                    status, _ = await client.ask("/v1/feedback", {"answer": answer["id"], "verdict": "accepted"})
                    kept["feedback"] |= {answer["id"]} if status == 201 else set()
        except (OSError, asyncio.IncompleteReadError):
            client.close()

    await asyncio.gather(*(one(number + 1000 * len(kept["items"])) for number in range(8)))


def kills(folder: Path, count: int) -> None:
    """Kill a service while it writes, again and again."""
    url, requests = filled(folder)
    kept: dict[str, set[str]] = {"items": set(), "feedback": set()}
    for number in range(count):
        with service(url) as running:
            seconds = random.Random(number).uniform(0.2, 2.0)
            asyncio.run(killed(running, seconds, requests, kept))
    store, answers = open_store(url), Answers(url)
    users = {name.partition("/")[0] for name in kept["items"]}
    there = {f"{user}/{item.id}" for user in users for item in store.get(user)}
    judged = {answer.id for answer, _ in answers.judged("lamp2")}
    store.close()
    answers.close()
    lost = len(kept["items"] - there), len(kept["feedback"] - judged)
    counts = f"{len(kept['items']):,} items and {len(kept['feedback']):,} pieces of feedback were acknowledged"
    verdict(lost == (0, 0), f"{count} kills: {counts}; lost: {lost[0]} and {lost[1]}")


async def killed(running: Running, seconds: float, requests: list[dict[str, Any]], kept: dict[str, set[str]]) -> None:
    asyncio.get_running_loop().call_later(seconds, running.kill)
    await write(running.port, requests, kept)


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


def verdict(met: bool, line: str) -> None:
    print(f"{'met   ' if met else 'MISSED'} {line}", flush=True)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(["load", "soak", "kills"]))
@click.option("--seconds", default=30.0, help="Of load.")
@click.option("--minutes", default=10.0, help="Of soak.")
@click.option("--kills", "count", default=100, help="Of kills.")
def main(parts: tuple[str, ...], seconds: float, minutes: float, count: int) -> None:
    """Measure the parts, by default all."""
    for part in parts or ("load", "soak", "kills"):
        with tempfile.TemporaryDirectory() as folder:
            {"load": load, "soak": soak, "kills": kills}[part](
                Path(folder), {"load": seconds, "soak": minutes, "kills": count}[part]
            )


if __name__ == "__main__":
    main()
