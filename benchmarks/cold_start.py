"""Measure the policies for users with few items: `python -m benchmarks.cold_start`.

The pocket model, task 2, users of the role `test` (synthetic), whose histories are cut to 0, 1 and 2 items. `own` shows
what the user has. `segment` fills up to three with items of a population: four of each of fifty training users. `whole`
is the same users with all their items. Users of the persona world differ by hidden preferences, so the items of others
tell what is usual in the world, and nothing of the user.
"""

import argparse
import tempfile
from pathlib import Path

import dspy

from metrics.intervals import of_metric
from programs.data.dataset import personas
from programs.evaluate.runner import measure
from programs.runs.directory import Rows
from programs.tasks import TASKS
from programs.tasks.program import r2p
from r2p_dspy import Item, connect
from r2p_dspy.stores import Histories, SQLite

_SEGMENT = "population"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="lamp2", choices=["lamp2", "lamp3"])
    parser.add_argument("--limit", type=int, default=400, help="users")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    task, folder = TASKS[arguments.task], Path(tempfile.mkdtemp())
    data = personas(task, seed=arguments.seed, limit=arguments.limit)
    store, lm = SQLite(folder / "histories.sqlite"), connect("pocket", cache=False, max_tokens=256)
    store.append(_SEGMENT, [_numbered(number, place, item) for number, place, item in _population(data.train, task)])
    metric = task.metrics[0]
    print(f"{arguments.task}, {len(data.test)} users, {metric} (95 %), answers without valid evidence")
    for items in (0, 1, 2, None):
        store.load((f"{example.id}, {items} items", list(example[task.profile])[:items]) for example in data.test)
        rows = [_asking(task, example, f"{example.id}, {items} items") for example in data.test]
        for name, segment in (("own", None), ("segment", _SEGMENT)) if items is not None else (("whole", None),):
            program = r2p(task)
            program.store = Histories(store, segment=segment)
            with dspy.context(lm=lm):
                results = measure(program, rows, task, Rows(folder / f"{name}-{items}.jsonl"), 16, lambda: None)
            answers, golds = [row["answer"] for row in results], [row["gold"] for row in results]
            value = of_metric(task.metric(metric), answers, golds, task.labels).rounded()
            uncited = sum(not row["evidence"] for row in results)
            shown = "all" if items is None else items
            interval = f"{value['low']:.3f} to {value['high']:.3f}"
            print(f"{shown:>3} items, {name:<7}: {value['value']:.3f} ({interval}), {uncited}")


def _population(train: list[dspy.Example], task: object) -> list[tuple[int, int, Item]]:
    users = enumerate(train[:50])
    return [(number, place, item) for number, user in users for place, item in enumerate(list(user.profile)[:4])]


def _numbered(number: int, place: int, item: Item) -> Item:
    return item.model_copy(update={"id": f"{number}-{place}"})


def _asking(task: object, example: dspy.Example, user: str) -> dspy.Example:
    """The example without its history: it names the user."""
    known = {name: value for name, value in example.items() if name != task.profile}
    inputs = [name for name in example.inputs().keys() if name != task.profile]  # noqa: SIM118  # an Example, not a dict
    return dspy.Example(**{**known, "user": user}).with_inputs(*inputs, "user")


if __name__ == "__main__":
    main()
