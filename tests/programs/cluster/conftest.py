"""Rows of persona users (synthetic), and a server that answers them."""

import json

import pytest

from benchmarks.answering import citing, write_rows
from programs.runs.configs import PredictConfig
from tests.endpoint import Endpoint

ROWS = 23


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """Rows, some of them flawed: ids that stand twice, near and far, no JSON, no id, no profile, and blank lines."""
    path = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)
    lines = path.read_text().splitlines()
    first, second = json.loads(lines[0])["id"], json.loads(lines[1])["id"]
    lines[9] = lines[9].replace(json.loads(lines[9])["id"], first)
    lines[10] = lines[10].replace(json.loads(lines[10])["id"], first)
    lines[2] = lines[2].replace(json.loads(lines[2])["id"], second)
    lines[5], lines[6], lines[14] = "[1]", '{"input": "no id"}', "half a {"
    lines[17] = json.dumps({"id": "without", "input": json.loads(lines[17])["input"]})
    path.write_text("\n\n".join(lines[:4]) + "\n" + "\n".join(lines[4:]))  # and no newline at the end
    return path


@pytest.fixture
def endpoint(monkeypatch):
    """A server whose answers cite the first item of the prompt."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with Endpoint(citing) as server:
        yield server


@pytest.fixture
def config(rows, endpoint, tmp_path):
    """config(**changes): of `predict` on a cluster, at the server."""

    def make(**changes):
        given = {"task": "lamp2", "model": "openai/m", "api_base": endpoint.api_base, "lm": ("num_retries=0",)}
        cluster = {"ray": "local", "partition_rows": 4}
        return PredictConfig.of(rows, tmp_path / "out", **{**given, **cluster, **changes})

    return make
