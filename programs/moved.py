"""Modules that moved: for one version their old names import the new ones, with a DeprecationWarning."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {  # the modules that the documentation named
    **{f"programs.lamp{number}": f"programs.tasks.lamp{number}" for number in range(1, 8)},
    "programs.compiling": "programs.optimize.compiling",
    "programs.personas": "programs.data.personas",
    "programs.ready": "programs.tasks.program",
    "programs.task": "programs.tasks.task",
    "programs.task_file": "programs.tasks.task_file",
    "finetune.provider": "finetune.dspy_provider.provider",
    "finetune.rollouts": "finetune.dspy_provider.rollouts",
}


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _new_name(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = _new_name(spec.name)
        warnings.warn(f"{spec.name} has moved; import {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__  # which the import system is about to replace
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def _new_name(name: str) -> str:
    parts = name.split(".")
    old = ".".join(parts[:2])
    return ".".join([MOVED[old], *parts[2:]]) if old in MOVED else ""


def install() -> None:
    """Let the old names be imported. They come first, since a moved package would find its modules a second time."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
