"""An input is cut into partitions: no row lost or doubled, in order, from JSONL and Parquet."""

import datetime
import json
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs.cluster.partitions import Partition, partitioned
from programs.cluster.worker import RepeatedIds, ids_of, repeated_ids
from programs.predict.input_rows import read, read_lines
from programs.tasks.lamp2 import TASK
from r2p_dspy import DataError

LINES = st.lists(st.sampled_from([b"{}", b'{"id": 1}', b"", b"  ", "[\u2028é]".encode(), b"x" * 40]), max_size=30)


def write_parquet(path, rows, group=2):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def row(number, **changes):
    profile = [{"id": "m1", "description": "a storm", "tag": "drama"}, {"id": "m2", "description": "x", "tag": None}]
    return {"id": f"r{number}", "description": f"film {number}", "profile": profile, **changes}


@given(LINES, st.integers(1, 7), st.booleans())
def test_partitions_have_every_line_once_in_order(lines, rows, ends):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join(lines) + b"\n" * ends)
        wanted = [(number, line) for number, line in enumerate(path.open("rb"), start=1) if line.strip()]
        if not wanted:
            with pytest.raises(DataError, match="holds no rows"):
                partitioned(TASK, path, rows)
            return
        cut = partitioned(TASK, path, rows)
        parts = [Partition.from_json(part.to_json()) for part in cut.partitions]
        found = [[(number, line) for number, line in part.lines() if line.strip()] for part in parts]
        assert [line for part in found for line in part] == wanted
        assert [len(part) for part in found] == [part.rows for part in parts] and cut.rows == len(wanted)
        assert all(len(part) == rows for part in found[:-1])


@pytest.mark.parametrize("rows, sizes", [(1, [2, 2, 2, 1]), (2, [2, 2, 2, 1]), (3, [4, 3]), (100, [7])])
def test_a_parquet_partition_has_whole_row_groups(tmp_path, rows, sizes):
    path = write_parquet(tmp_path / "rows.parquet", [row(number) for number in range(7)])
    cut = partitioned(TASK, path, rows)
    assert [part.rows for part in cut.partitions] == sizes
    read_back = [(number, json.loads(line)["id"]) for part in cut.partitions for number, line in part.lines()]
    assert read_back == [(number + 1, f"r{number}") for number in range(7)]


def test_parquet_rows_are_jsonl_rows(tmp_path):
    days = [datetime.date(2024, 2, 29), None, datetime.date(2023, 1, 1)]
    given_rows = [row(number, date=day) for number, day in enumerate(days)]
    (part,) = partitioned(TASK, write_parquet(tmp_path / "rows.parquet", given_rows), 10).partitions
    lines = [json.loads(line) for _, line in part.lines()]
    assert [line.get("date", "none") for line in lines] == ["2024-02-29", "none", "2023-01-01"]
    assert lines[0]["profile"][1] == {"id": "m2", "description": "x"}, "a null of Parquet is a missing key"


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=30), st.integers(1, 5))
def test_ids_that_stand_in_several_partitions_are_found_as_in_one_file(names, rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps({"id": name}) + "\n" for name in names))
        cut = partitioned(TASK, path, rows).partitions
        repeated = repeated_ids((part, *ids_of(TASK, part)) for part in reversed(cut))
        faults = [
            (found.line, found.fault)
            for part in cut
            for found in read_lines(TASK, path, part.lines(), (), RepeatedIds(repeated.get(part.number, {})))
        ]
        assert faults == [(found.line, found.fault) for found in read(TASK, path)]


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"id": "b1"}\n{"id": "a1"}\n')
    (tmp_path / "a.jsonl").write_text('{"id": "a1"}\n')
    (tmp_path / "notes.txt").write_text("no rows")
    cut = partitioned(TASK, tmp_path, 10)
    assert [(Path(part.file).name, part.rows, part.named) for part in cut.partitions] == [
        ("a.jsonl", 1, True),
        ("b.jsonl", 2, True),
    ]
    assert [*repeated_ids((part, *ids_of(TASK, part)) for part in cut.partitions)[1].values()] == ["line 1 of a.jsonl"]
    before = cut.fingerprint
    (tmp_path / "b.jsonl").write_text('{"id": "b2"}\n{"id": "a1"}\n')
    assert partitioned(TASK, tmp_path, 10).fingerprint != before


@pytest.mark.parametrize(
    "prepare, says",
    [
        (lambda path: None, "cannot be read .*give --input a file of rows"),
        (lambda path: path.mkdir(), "holds no .jsonl and no .parquet file"),
        (lambda path: path.write_text("no parquet at all"), "is no Parquet file"),
        (
            lambda path: write_parquet(path, [{"id": 1, "text": "a"}]),
            "has the columns id, text; it lacks description or input, history or profile, which rows of lamp2 need",
        ),
        (lambda path: write_parquet(path, [{"id": 1, "input": "a", "user": "ada"}]), "it lacks history or profile,"),
    ],
)
def test_bad_inputs_are_one_line(tmp_path, prepare, says):
    path = tmp_path / "rows.parquet"
    prepare(path)
    with pytest.raises(DataError, match=says) as refusal:
        partitioned(TASK, path, 10)
    assert "\n" not in str(refusal.value)


def test_with_a_store_a_row_may_name_its_user(tmp_path):
    path = write_parquet(tmp_path / "rows.parquet", [{"id": 1, "input": "a", "user": "ada"}])
    assert partitioned(TASK, path, 10, stored=True).rows == 1
