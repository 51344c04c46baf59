"""What `serve` does, resolved once from the command line's options."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from programs import COMPILED
from programs.runs.configs import PredictConfig
from programs.runs.model import ModelConfig
from programs.serve.tokens import Tokens, read_tokens
from programs.tasks import TASKS
from programs.tasks.program import ProgramConfig, resolve
from programs.tasks.task_file import task_of
from r2p_dspy import read_artifact
from r2p_dspy.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_OWN = ("store", "unknown_users", "host", "port", "max_in_flight", "timeout", "grace")
UnknownUsers = Literal["refuse", "answer"]


@dataclass(frozen=True)
class ServeConfig:
    """What `serve` does.

    Args:
        programs: the programs by their names in addresses.
        model: what they ask.
        tokens: who may ask; without tokens, everybody on this machine.
        store: address of the profile store; None for none.
        unknown_users: whether a request for a user of whom the store has nothing is refused with 404, or answered.
        host, port: where it listens; port 0 takes a free one.
        max_in_flight: calls of programs at the same time; more are refused with 429.
        timeout: seconds for one call of a program.
        max_bytes: of a request's body.
        grace: seconds that requests in flight may take after SIGTERM.
    """

    programs: dict[str, ProgramConfig]
    model: ModelConfig
    tokens: Tokens
    store: str | None = None
    unknown_users: UnknownUsers = "refuse"
    host: str = "127.0.0.1"
    port: int = 8000
    max_in_flight: int = 64
    timeout: float = 60.0
    max_bytes: int = 4_000_000
    grace: float = 30.0

    @classmethod
    def of(
        cls,
        *,
        programs: Sequence[str] = (),
        tasks: Sequence[str] = (),
        tokens: str | None = None,
        call_timeout: float | None = None,
        max_megabytes: float = 4.0,
        **options: Any,
    ) -> "ServeConfig":
        """Resolve options under their names on the command line; an option that is left out has its default.

        Args:
            programs: compiled programs, each a file, a run, or NAME=FILE.
            tasks: tasks of the programs, names or task files; one that no compiled program is for is served uncompiled.
            tokens: a file of tokens.
            call_timeout: seconds for one call of the model; None for `connect`'s own.
            max_megabytes: of a request's body.
            options: the others, among them those of a program and its model, as of `PredictConfig.of`.

        Raises:
            ConfigError: names that stand twice, a program of an unknown task, a host that others can reach without
                tokens.
            ArtifactError: a compiled program that cannot be used.
        """
        own = {name: options.pop(name) for name in _OWN if name in options}
        base = PredictConfig.of("", "", task="lamp2", timeout=call_timeout, **options)
        known = read_tokens(tokens)
        if not known and own.get("host", _LOOPBACK[0]) not in _LOOPBACK:
            raise ConfigError(
                f"without tokens, anybody who can reach {own['host']} may ask: give --tokens FILE, or set R2P_TOKENS "
                "(docs/production.md)"
            )
        named = _named(base.program, programs, tasks)
        return cls(named, base.model, known, max_bytes=int(max_megabytes * 1_000_000), **own)


def _named(base: ProgramConfig, programs: Sequence[str], tasks: Sequence[str]) -> dict[str, ProgramConfig]:
    """The programs by name: compiled ones, then the uncompiled ones of other tasks; by default those that ship."""
    given = [*programs] or ([] if tasks else [str(path) for path in sorted(COMPILED.glob("*.json"))])
    own = {task_of(task).name: task for task in tasks}
    named: dict[str, ProgramConfig] = {}
    for text in given:
        name, _, file = text.rpartition("=") if "=" in text and not Path(text).exists() else ("", "", text)
        task = read_artifact(file).task
        if task is None or (task not in own and task not in TASKS):
            raise ConfigError(f"{file} is for the task {task!r}, which is not here; give its file with --task")
        if not _NAME.fullmatch(name or task):
            raise ConfigError(f"a program's name has only letters, digits, - and _, not {name!r}")
        if (name or task) in named:
            raise ConfigError(f"two programs are named {name or task!r}; write --program NAME={file}")
        named[name or task] = replace(base, task=own.get(task, task), r2p=resolve(base.explicit, file), artifact=file)
    compiled = {task_of(config.task).name for config in named.values()}
    rest = {
        name: replace(base, task=task, r2p=resolve(base.explicit, None, task))
        for name, task in own.items()
        if name not in compiled
    }
    return named | rest
