"""The plan on paper: what it computes, and that the documentation shows it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.capacity import Inputs, Plan, main

DOCS = Path(__file__).parents[1] / "docs" / "scale.md"


def printed(*arguments):
    result = CliRunner().invoke(main, [*arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_documentation_shows_what_the_script_prints():
    assert printed() in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes, factor",
    [({"decode_rate": 1e12, "cached_share": 1.0}, 0), ({"peak": 6}, 2), ({"calls_per_answer": 2.1}, 2)],
    ids=["an infinitely fast GPU", "twice the peak", "twice the calls"],
)
def test_gpus_follow_the_inputs(changes, factor):
    before, after = (Plan(1e6, 1e6, Inputs(**given)).gpus for given in ({}, changes))
    assert after == pytest.approx(factor * before, abs=1e-6)


def test_a_plan_is_arithmetic():
    plan = Plan(10, 86_400, Inputs(items=3, item_bytes=5, peak=2, row_rate=1, prompt_tokens=10, calls_per_answer=1))
    assert (plan.store_bytes, plan.rate, plan.cores, plan.prompt_tokens) == (150, 2, 2, 864_000)


def test_inputs_of_the_command_line_count():
    assert "dollars a day: GPUs | 48 |" in printed("--users", "1", "--gpu-dollars", "2"), "one GPU at least"
