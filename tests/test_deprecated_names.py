"""Names of the last version still work and warn."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import programs
import r2p_dspy
from programs.moved import MOVED
from programs.tasks import TASKS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("old", MOVED)
def test_a_moved_module_is_the_new_one(old):
    new = importlib.import_module(MOVED[old])
    spec = new.__spec__
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved; import {MOVED[old]}") as caught:
        assert importlib.import_module(old) is new
    assert new.__spec__ is spec
    assert [warning.category for warning in caught] == [DeprecationWarning]


def test_a_moved_package_keeps_its_modules():
    from programs.data.personas import films

    sys.modules.pop("programs.personas.films", None)
    with pytest.warns(DeprecationWarning, match=r"programs\.personas\.films has moved"):
        assert importlib.import_module("programs.personas.films") is films


def test_the_warning_names_the_users_line():
    code = "import warnings; warnings.simplefilter('error')\nfrom finetune.provider import trainable"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "DeprecationWarning: finetune.provider has moved; import finetune.dspy_provider.provider" in done.stderr
    code = "import warnings; warnings.simplefilter('default')\nfrom programs.lamp2 import TASK; print(TASK.name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "lamp2\n" and "<string>:2: DeprecationWarning: programs.lamp2" in done.stderr


def test_programs_tasks():
    with pytest.warns(DeprecationWarning, match=r"import programs\.tasks\.TASKS"):
        assert programs.TASKS is TASKS


def test_an_unknown_name_is_none():
    for module in (programs, r2p_dspy):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            module.nothing


def test_assertion_unmet():
    with pytest.warns(DeprecationWarning, match=r"AssertionUnmet is deprecated; use r2p_dspy\.AssertionFailed"):
        assert r2p_dspy.AssertionUnmet is r2p_dspy.AssertionFailed


def test_embedders():
    sys.modules.pop("r2p_dspy.embedders", None)
    with pytest.warns(DeprecationWarning, match=r"import r2p_dspy\.retrieval\.embedders"):
        old = importlib.import_module("r2p_dspy.embedders")
    assert old.embedder is importlib.import_module("r2p_dspy.retrieval.embedders").embedder
