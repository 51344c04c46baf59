"""Kills at random moments, in short: nothing that is paid for is lost, and the results are those of a whole run.

`python -m benchmarks.kills` is the whole campaign.
"""

import random

import pytest

from benchmarks.kills import OPTIONS, Campaign, say
from tests.faulty import FaultyServer

SHORT = {"predict": [], "evaluate": ["--limit", "12"]}


@pytest.mark.parametrize(
    "name, options, kills, by_clock",
    [
        ("predict", SHORT["predict"], 3, 0),
        ("evaluate", SHORT["evaluate"], 2, 0),
        pytest.param("predict", OPTIONS["predict"], 20, 0.5, marks=pytest.mark.chaos),
        pytest.param("evaluate", OPTIONS["evaluate"], 10, 0.5, marks=pytest.mark.chaos),
        pytest.param("compile", OPTIONS["compile"], 6, 0.5, marks=[pytest.mark.chaos, pytest.mark.timeout(1200)]),
        pytest.param("finetune", OPTIONS["finetune"], 3, 0.5, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)]),
    ],
)
def test_kills_lose_nothing(name, options, kills, by_clock):
    with FaultyServer(text=say) as server:
        campaign = Campaign(name, options, server, random.Random(1), rows=40)
        *_, tally = campaign.kill(kills, by_clock)
        campaign.close()
    assert tally.kills == kills and tally.met, tally
    assert tally.amid or by_clock
