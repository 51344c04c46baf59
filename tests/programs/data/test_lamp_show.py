"""An example as a person reads it."""

import dspy
import pytest

from programs.data.dataset import personas
from programs.data.lamp.show import persona_example, read_example, text
from programs.tasks import TASKS, lamp1, lamp2, lamp4
from r2p_dspy.errors import DataError
from tests.lamp import item, load, question, write


def test_history_from_old_to_new(tmp_path):
    dates = {"a": "2020-03-01", "b": None, "c": "2019-12-31"}
    profile = [item(lamp2.TASK, key, date=date) for key, date in dates.items()]
    write(tmp_path, lamp2.TASK, [question(lamp2.TASK, profile=profile)], {"1": "comedy"})
    lines = text(lamp2.TASK, read_example(lamp2.TASK, tmp_path, "dev")).splitlines()
    assert lines[:2] == ["question 1", "  description: It rained."]
    assert [line.strip() for line in lines if "item " in line] == [
        "item b · comedy", "2019-12-31 · item c · comedy", "2020-03-01 · item a · comedy",
    ]  # fmt: skip
    assert lines[-2:] == ["gold", "  tag: comedy"]


def test_long_texts_are_cut_by_default():
    task, long = lamp4.TASK, "rain " * 300
    example = persona_example(TASKS["lamp2"], "dev")
    example = type(example)(id="1", article=long, headline="x", profile=[])
    short, whole = text(task, example, width=60), text(task, example, width=60, most=None)
    assert "(1,100 more characters)" in short and short.count("rain") == 80
    assert whole.count("rain") == 300 and "history: 0 items" in whole
    assert max(map(len, short.splitlines())) <= 60


def test_control_characters_are_replaced(tmp_path):
    bad = "so\x1b[2J it\r\n\u202erained"
    profile = [item(lamp2.TASK, bad, description=bad, date=f"1{bad}")]
    write(tmp_path, lamp2.TASK, [question(lamp2.TASK, bad, bad, profile=profile)], {bad: "comedy"})
    shown = text(lamp2.TASK, load(lamp2.TASK, tmp_path, "dev")[0])
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.encode() and shown.count("rained") == 5


def test_lines_of_a_question_are_kept(tmp_path):
    lines = "Parsing\n[1] Grammars\n[2] Deep Sea"
    write(tmp_path, lamp1.TASK, [question(lamp1.TASK, text=lines)], {"1": "[2]"})
    shown = text(lamp1.TASK, read_example(lamp1.TASK, tmp_path, "dev"))
    assert shown.splitlines()[1:4] == ["  paper: Parsing", "    [1] Grammars", "    [2] Deep Sea"]


@pytest.mark.parametrize("split", ["train", "dev"])
def test_persona_by_split_or_number(split):
    task = TASKS["lamp3"]
    first = persona_example(task, split)
    assert first.id == getattr(personas(task, seed=0, limit=1), split)[0].id
    reported = personas(task, seed=5, limit=3).test[2]
    assert persona_example(task, split, reported.id).toDict() == reported.toDict()


@pytest.mark.parametrize("name", ["x", "-1", "1.5", "1000000", "", "٣x"])
def test_unknown_persona(name):
    with pytest.raises(ValueError, match="number"):
        persona_example(TASKS["lamp2"], "dev", name)


def test_rows_by_id_and_errors_of_flawed_ones(tmp_path):
    rows = [question(lamp4.TASK, "1", profile=None), question(lamp4.TASK, "2"), question(lamp4.TASK, "3")]
    write(tmp_path, lamp4.TASK, rows, dict.fromkeys("123", "a"))
    assert read_example(lamp4.TASK, tmp_path, "dev").id == "2"
    assert read_example(lamp4.TASK, tmp_path, "dev", "3").id == "3"
    with pytest.raises(DataError, match="question 1: its profile is None"):
        read_example(lamp4.TASK, tmp_path, "dev", "1")
    with pytest.raises(DataError, match="has no question 9"):
        read_example(lamp4.TASK, tmp_path, "dev", "9")
    with pytest.raises(DataError, match="no such file or directory"):
        read_example(lamp4.TASK, tmp_path / "elsewhere", "dev")


def test_unreadable_dates_keep_the_order():
    items = [{"id": key, "text": "x", "date": date} for key, date in (("a", "2020"), ("b", "5/1/2019"), ("c", "2018"))]
    shown = text(lamp4.TASK, dspy.Example(id="1", article="x", headline="y", profile=items))
    assert "history: 3 items, in the file's order (item 'b': its date '5/1/2019' cannot be read as a date;" in shown
    assert [line.split()[-1] for line in shown.splitlines() if "· item" in line] == ["a", "b", "c"]
