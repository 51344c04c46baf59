"""`python cli.py serve`. Light: `--help` imports this module."""

import asyncio
from typing import Any

import click

from programs.ui.options import SERVED, options

_PROGRAM = (
    "Serve this compiled program: program.json, the directory of its run, or NAME=FILE. Repeatable; default: the "
    "programs that ship."
)
_TASK = "Name the task of a program, or its file; a task without a compiled program is served uncompiled. Repeatable."
_STORE = "Keep users' histories, answers and feedback here: sqlite:///FILE or postgresql+psycopg://…"
_TOKENS = (
    "Let only these tokens ask: a file with a line TENANT:SHA256 or TENANT:SHA256:LAST_DAY for each. Default: those in "
    "R2P_TOKENS; without any, the service listens on 127.0.0.1 alone."
)
_SETTINGS = tuple(name for name in SERVED if name != "timeout")


@click.command()
@click.option("--program", "programs", multiple=True, metavar="FILE_OR_RUN", help=_PROGRAM)
@click.option("--task", "tasks", multiple=True, metavar="TASK", help=_TASK)
@options("model", *_SETTINGS, "temperature", "retriever", "k", "constrain", "on_unmet", "seed")
@click.option("--store", metavar="URL", envvar="R2P_STORE", show_envvar=True, help=_STORE)
@click.option(
    "--unknown-users",
    default="refuse",
    show_default=True,
    type=click.Choice(["refuse", "answer"]),
    help="Refuse a request for a user of whom the store has nothing, with status 404, or answer it with a warning.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen on this address; others need tokens.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Listen on this port.")
@click.option("--tokens", metavar="FILE", help=_TOKENS)
@click.option(
    "--max-in-flight",
    default=64,
    show_default=True,
    type=click.IntRange(1),
    help="Answer this many requests at the same time; more are refused with status 429.",
)
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Give up a request after so long, with status 504.",
)
@click.option(
    "--call-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Give up one call of a served model after so long; default: 120.",
)
@click.option(
    "--max-megabytes",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Refuse larger requests, with status 413.",
)
@click.option(
    "--grace",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Give requests in flight so long to end after SIGTERM.",
)
def serve(**given: Any) -> None:
    """Serve programs over HTTP: typed answers with their evidence, users' histories, feedback.

    POST /v1/programs/NAME answers; /openapi.json says how to ask. With a store, a request may name a user, POST
    /v1/users/USER/items adds to a history, and POST /v1/feedback says what became of an answer: `data from-feedback`
    makes rows for `compile` and `finetune` of that. SIGTERM lets requests in flight end (docs/production.md).
    """
    from programs.runs.cautions import foreign_text
    from programs.serve.config import ServeConfig
    from programs.ui.private_logs import private_logs
    from r2p_dspy.errors import ConfigError

    try:
        from programs.serve.server import run
        from programs.serve.service import Service
    except ModuleNotFoundError as missing:
        raise ConfigError(f"{missing.name} is not installed; pip install '.[local,cli,serve-http]'") from None
    config = ServeConfig.of(**given)
    with private_logs():
        service = Service(config)
        for caution in foreign_text(config.model.name, "requests"):
            click.echo(caution, err=True)
        asyncio.run(run(service))
