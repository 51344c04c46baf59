"""LaMP's submission format: what a run writes of its programs, and scoring such a file as the official script does."""

import json
from math import isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from programs.evaluate.submission import SubmissionError, score, submission
from programs.tasks import TASKS
from tests import official

GOLDS = {
    "LaMP_1": ["[1]", "[2]"],
    "LaMP_2": list(TASKS["lamp2"].labels),
    "LaMP_3": ["1", "2", "3", "4", "5"],
    "LaMP_4": ["Rain Again", "A Dry Spell in May"],
}


def file(path, rows, task="LaMP_2"):
    path.write_text(json.dumps({"task": task, "golds": [{"id": name, "output": output} for name, output in rows]}))
    return path


@pytest.mark.parametrize("task", GOLDS)
@settings(max_examples=15)
@given(data=st.data())
def test_scores_equal_official_script(task, data, tmp_path_factory):
    outputs = st.sampled_from(GOLDS[task]) | st.text(max_size=9).filter(lambda text: isfinite(official.rated(text, 3)))
    names = data.draw(st.lists(st.integers(0, 99).map(str), min_size=1, max_size=12, unique=True))
    golds = [(name, data.draw(st.sampled_from(GOLDS[task]))) for name in names]
    given_ = [(name, data.draw(outputs)) for name in data.draw(st.permutations(names))]
    folder = tmp_path_factory.mktemp("files")
    paths = file(folder / "predictions.json", given_, task), file(folder / "golds.json", golds, task)
    scored, examples, scores = score(*paths)
    files = [json.loads(path.read_text()) for path in paths]
    assert (scored.lamp, examples) == (task, len(names))
    expected = official.evaluated(*files, scored.labels)
    assert {name: interval.value for name, interval in scores.items()} == pytest.approx(expected, abs=1e-12)
    assert all(interval.low <= interval.high for interval in scores.values())


@pytest.mark.parametrize("task", GOLDS)
def test_golds_score_full_marks(tmp_path, task):
    path = file(tmp_path / "golds.json", [(str(n), gold) for n, gold in enumerate(GOLDS[task])], task)
    _, _, scores = score(path, path)
    assert {interval.value for interval in scores.values()} == ({0.0} if task == "LaMP_3" else {1.0})


ONE = [("1", "comedy"), ("2", "action")]
REFUSED = [
    ("one missing", ONE[:1], "1 missing (the first is '2'); give one prediction per gold"),
    ("one too many", [*ONE, ("9", "action")], "1 unknown (the first is '9')"),
    ("another", [ONE[0], ("3", "action")], "1 missing (the first is '2'), 1 unknown (the first is '3')"),
    ("numbers for texts", [(1, "comedy"), (2, "action")], "2 missing (the first is '1'), 2 unknown (the first is 1)"),
    ("one twice", [*ONE, ONE[0]], "the id '1' appears twice; keep one of them"),
    ("no id", [*ONE, (None, "comedy")], "row 3 has no id or no output"),
    ("a list for a text", [ONE[0], ("2", ["action"])], "the output of '2' is not a text"),
    ("nothing", [], "it has no golds"),
]


@pytest.mark.parametrize(("why", "rows", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_mismatched_predictions_are_refused(tmp_path, why, rows, said):
    predictions, golds = file(tmp_path / "predictions.json", rows), file(tmp_path / "golds.json", ONE)
    with pytest.raises(SubmissionError) as caught:
        score(predictions, golds)
    message = str(caught.value)
    assert said in message and str(predictions) in message and message.splitlines() == [message]
    if "missing" in said or "unknown" in said:
        with pytest.raises(AssertionError):  # the official script refuses them too
            official.evaluated(*(json.loads(path.read_text()) for path in (predictions, golds)))


@pytest.mark.parametrize(
    ("why", "content", "said"),
    [
        ("not there", None, "cannot be read"),
        ("cut short", b'{"task": "LaMP_2", "gol', "not valid JSON"),
        ("brackets", b"[" * 100_000, "not valid JSON"),
        ("no text", b"\xff\xfe\x00", "not valid JSON"),
        ("a list", b"[]", "has no golds"),
        ("another task's", b'{"task": "LaMP_3", "golds": [{"id": "1", "output": "4"}]}', "LaMP_3"),
        ("no task of LaMP", b'{"task": "LaMP_9", "golds": [{"id": "1", "output": "4"}]}', "LaMP_9"),
        ("no output", b'{"task": "LaMP_2", "golds": [{"id": "1"}]}', "no output"),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_invalid_submission_is_refused(tmp_path, which, why, content, said):
    paths = [file(tmp_path / "predictions.json", ONE), file(tmp_path / "golds.json", ONE)]
    paths[which].unlink()
    if content is not None:
        paths[which].write_bytes(content)
    with pytest.raises(SubmissionError) as caught:
        score(*paths)
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert paths[which].name in str(caught.value)


def test_non_numeric_gold_names_golds_file(tmp_path):
    predictions, golds = (file(tmp_path / name, [("1", "five")], "LaMP_3") for name in ("p.json", "g.json"))
    with pytest.raises(SubmissionError, match=r"g\.json: the gold rating 'five' is no number"):
        score(predictions, golds)


def test_file_with_byte_order_mark(tmp_path):
    path = file(tmp_path / "golds.json", ONE)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert score(path, path)[2]["accuracy"].value == 1.0


def test_submission_of_rows():
    rows = [{"id": "1", "answer": "comedy", "gold": "action"}, {"id": "2", "answer": None}, {"id": "3", "answer": 4}]
    outputs = [{"id": "1", "output": "comedy"}, {"id": "2", "output": ""}, {"id": "3", "output": "4"}]
    assert submission(TASKS["lamp2"], rows) == {"task": "LaMP_2", "golds": outputs}
