"""The campaigns of `benchmarks.ray` at a hundredth of their size."""

import pytest

pytest.importorskip("ray")

from benchmarks import ray as campaigns

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("name", ["same", "kills", "nodes"])
def test_no_row_is_lost_or_doubled(name, tmp_path, capsys):
    getattr(campaigns, name)(100, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("met")] and not [line for line in lines if "MISSED" in line]
