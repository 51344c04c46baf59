"""Connecting to a Ray cluster, or starting one on this machine, and looking whether its nodes can do the work."""

import logging
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from programs.runs.model import ModelConfig
from r2p_dspy.errors import ConfigError, R2PError

LOCAL = "local"  # the address of this machine alone
_ROOT = Path(__file__).resolve().parents[2]
_STORE_BYTES = 100_000_000  # of Ray's object store here: what travels are names of partitions and counts
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
_REACH = 5.0  # seconds to reach an address
_LOOK = 300.0  # seconds for a node to import what it needs and to say so
_SAME = ("dspy", "pydantic", "numpy")  # packages whose versions decide what is written, or read


def check_installed() -> None:
    """Raise a ConfigError that says how to install Ray, if it is missing."""
    if missing := [name for name in ("ray", "pyarrow") if find_spec(name) is None]:
        raise ConfigError(f"--ray needs {', '.join(missing)}: pip install '.[ray]'")


def check_reachable(address: str) -> None:
    """Connect to a cluster and leave it again, before a run is begun that will need it; nothing for "local".

    Raises:
        ConfigError: Ray is missing, or see `connected`.
    """
    check_installed()
    if address != LOCAL:
        with connected(address):
            pass


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray, connected to a cluster or, with the address "local", started on this machine until the block ends.

    A process that is connected already stays so.

    Raises:
        ConfigError: nothing answers at the address, or what runs there is of another version of Ray or Python.
    """
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    import ray

    if ray.is_initialized():
        yield
        return
    if address not in (LOCAL, "auto"):
        _reach(address)
    own = {"object_store_memory": _STORE_BYTES, "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray raises bare ones, as when a busy machine does not start it in time
        raise ConfigError(f"--ray {address}: {_reason(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def environment() -> dict[str, Any]:
    """What workers need of this process: this checkout to import from, where it is not installed."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}


def check_nodes(model: ModelConfig, look: Callable[[], None]) -> str | None:
    """Look on each node that has a CPU for workers whether it can do the work.

    Args:
        model: what its workers ask.
        look: looks there at what else they need, and raises an R2PError of one line for what is missing.

    Returns:
        A fingerprint of the weights of a model in process, which are the same on all nodes; None for a served one.

    Raises:
        ConfigError: one line that names the node: it lacks a package, or has another version of one, it lacks the
            model, or what `look` says.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = node_names()
    if not nodes:
        raise ConfigError("no node of the cluster has a CPU for workers; add one with `ray start`")
    looks = [
        ray.remote(look_at_node)
        .options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            runtime_env=environment(),
        )
        .remote(model, look)
        for node in nodes
    ]
    weights = dict[str, str | None]()
    for name, node_look in zip(nodes.values(), looks, strict=True):
        try:
            seen = ray.get(node_look, timeout=_LOOK)
        except ray.exceptions.RayError as error:
            raise ConfigError(f"node {name} cannot run r2p-dspy: {_reason(error)}") from None
        _check_versions(name, seen["versions"])
        if seen["error"]:
            raise ConfigError(f"node {name}: {seen['error']}")
        weights[name] = seen["weights"]
    if len({*weights.values()}) > 1:
        raise ConfigError(f"the nodes have different weights of model {model.name!r}: {weights}")
    return next(iter(weights.values()), None)


def node_names() -> dict[str, str]:
    """The nodes that have a CPU for workers: the names of their machines, by id."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    return {node["NodeID"]: node["NodeManagerAddress"] for node in nodes}


def _check_versions(node: str, theirs: dict[str, str]) -> None:
    for package, ours in versions().items():
        if theirs.get(package) != ours:
            raise ConfigError(
                f"node {node} has {package} {theirs.get(package)}, and this machine {ours}; install the same"
            )


def versions() -> dict[str, str]:
    """The versions that driver and workers must share."""
    from r2p_dspy.version import __version__

    return {"Python": platform.python_version(), "r2p-dspy": __version__, **{name: version(name) for name in _SAME}}


def look_at_node(model: ModelConfig, look: Callable[[], None]) -> dict[str, Any]:
    """What a node has, or in one line what it lacks; runs there."""
    seen: dict[str, Any] = {"versions": versions(), "weights": None, "error": ""}
    try:
        look()
        seen["weights"] = weights_of(model)
    except (R2PError, ImportError) as error:
        seen["error"] = " ".join(str(error).split())
    return seen


def weights_of(model: ModelConfig) -> str | None:
    """A fingerprint of a model in process, which must be there; None for a served one."""
    from r2p_dspy.engines.connect import check_name
    from r2p_dspy.engines.weights import fingerprint, made

    check_name(model.name, model.api_base)
    if not model.in_process:
        return None
    if missing := [name for name in ("torch", "transformers") if find_spec(name) is None]:
        raise ConfigError(
            f"model {model.name!r} runs in its workers, which need {', '.join(missing)}: pip install '.[local]'"
        )
    where = made(model.name.removeprefix("hf:"))
    return fingerprint(where) if Path(where).is_dir() else where


def absolute(model: ModelConfig) -> ModelConfig:
    """The same model; one of this machine's files with its absolute path, since workers have other directories."""
    for prefix in ("hf:", "gguf:"):
        if model.name.startswith(prefix) and (path := Path(model.name.removeprefix(prefix)).expanduser()).exists():
            return replace(model, name=f"{prefix}{path.absolute()}")
    return model


def _reach(address: str) -> None:
    """Refuse an address at which nothing listens; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "/" in host:
        raise ConfigError(
            f"--ray {address}: write HOST:PORT of the cluster's head, and run the command on one of its nodes"
        )
    try:
        socket.create_connection((host, int(port)), _REACH).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--ray {address}: nothing answers there ({reason}); start Ray with `ray start`") from None


def _reason(error: Exception) -> str:
    """What is wrong, in one line out of the many that Ray writes."""
    text = str(error)
    if missing := re.search(r"No module named '([\w.]+)'", text):
        return f"it lacks the package {missing[1]}; install what the driver has, or share its checkout"
    if "ersion mismatch" in text:
        found = re.findall(r"(Ray|Python): (\S+)", text)
        theirs, ours = found[: len(found) // 2], found[len(found) // 2 :]
        words = (", ".join(f"{name} {number}" for name, number in pairs) for pairs in (theirs, ours))
        return "the cluster has {}, and this process {}; install the same".format(*words)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1][:300] if isinstance(error, RuntimeError) else lines[0][:300]
