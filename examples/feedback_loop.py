"""The loop of a product in use: serve, collect feedback, compile, and serve something better.

A service tags films with a setting that nobody has tuned: the two newest items of a history. Users of the persona world
(synthetic) correct its answers. Their feedback becomes rows, `compile --tune` finds better settings on them, and the
compiled program is served to other users.

    python -m examples.feedback_loop       # the pocket model, offline; a minute
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dspy
import httpx

from cli import cli
from programs.data.dataset import personas
from programs.serve.config import ServeConfig
from programs.serve.server import Server
from programs.serve.service import Service
from programs.tasks.lamp2 import TASK

USERS = 24  # who give feedback; as many others use what was compiled


@contextmanager
def serving(store: str, **options) -> Iterator[httpx.Client]:
    """`python cli.py serve`, in a thread."""
    server = Server(Service(ServeConfig.of(store=store, port=0, **options)))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.05)
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join()


def use(client: httpx.Client, users: list[dspy.Example], prefix: str) -> float:
    """Let users ask, and correct what is wrong; the share of answers that they accept."""
    accepted = 0
    for number, user in enumerate(users):
        name = f"{prefix}{number}"
        items = [{"id": item.id, "description": item.text, "tag": item.label} for item in user.profile]
        client.post(f"/v1/users/{name}/items", json={"program": "lamp2", "items": items}).raise_for_status()
        answer = client.post("/v1/programs/lamp2", json={"inputs": {"description": user.description}, "user": name})
        given = answer.raise_for_status().json()
        is_right = given["outputs"]["tag"] == user.tag
        said = {"verdict": "accepted"} if is_right else {"edited": user.tag}
        client.post("/v1/feedback", json={"answer": given["id"], **said}).raise_for_status()
        accepted += is_right
    return accepted / len(users)


def main() -> None:
    drawn = personas(TASK, seed=0, limit=2 * USERS).test
    with tempfile.TemporaryDirectory() as folder:
        store, rows, run = f"sqlite:///{folder}/histories.sqlite", Path(folder, "rows"), Path(folder, "run")
        with serving(store, tasks=["lamp2"], retriever="recency", k=2) as client:
            before = use(client, drawn[:USERS], "first")
        cli.main(["data", "from-feedback", "--store", store, "--task", "lamp2", "--output", str(rows)])
        tuning = ["--tune", "--trials", "4", "--optimizer", "none", "--limit", "12"]
        cli.main(["compile", "--task", "lamp2", "--data", str(rows), *tuning, "--output", str(run)])
        with serving(store, programs=[str(run)]) as client:
            after = use(client, drawn[USERS:], "second")
    print(f"accepted: {before:.0%} of the first users' answers, {after:.0%} of other users' after compiling")


if __name__ == "__main__":
    main()
