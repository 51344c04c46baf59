"""Predictions for a file: in order, none lost or doubled whatever stops a run in between, and what fails is said."""

import itertools
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextvars import copy_context
from pathlib import Path

import dspy
import pytest
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.lm15 import (
    AuthError,
    BillingError,
    ContextLengthError,
    InvalidRequestError,
    ProviderError,
    RateLimitError,
    ServerError,
    TimeoutError,
    TransportError,
    UnsupportedModelError,
)
from dspy.utils.exceptions import LMError
from hypothesis import given
from hypothesis import strategies as st

from programs.predict.input_rows import arguments, read, survey
from programs.predict.run import predict
from programs.predict.writer import MOST, PredictionWriter
from programs.tasks import lamp2
from programs.tasks.task import Task
from r2p_dspy import R2P, CheckError, Profile, Suggest
from r2p_dspy.errors import RunError
from tests.film import HISTORY, Film, program
from tests.scripted import ScriptedEngine, completion

ROOT = Path(__file__).parents[3]
TASK = Task("films", Film, "film", "tag", ("text",), ("accuracy",), label="label", labels=("romance", "fantasy"))


def row(number, **changes):
    return {"id": f"r{number}", "film": f"film number {number}", "profile": HISTORY, **changes}


def number_of(request):
    return int(re.search(r"film number (\d+)", "\n".join(message.text or "" for message in request.messages))[1])


def answer(request):
    """The film's number as its tag."""
    tag = f"tag {number_of(request)}"
    return completion(draft=tag, tag=tag)


def write(folder, rows):
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def go(source, *, resume=False, config=(), module=None, **options):
    """Predict with the model that is configured."""
    known = {"input": survey(TASK, source)[1], **dict(config)}
    skip = options.get("skip", ())
    with PredictionWriter(source.with_name("out.jsonl"), known, source, resume, skip) as settled:
        predict(module or program(on_unmet="return"), TASK, source, settled, **{"threads": 4, **options})
    return settled


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def results(folder):
    """The answers' ids and the failures' lines."""
    return [row["id"] for row in lines(folder / "out.jsonl")], [
        row["line"] for row in lines(folder / "out.failed.jsonl")
    ]


@pytest.fixture
def model():
    """model(text or function) configures a language model; in a plain context, since hypothesis runs a test again."""

    def make(*texts):
        lm = dspy.LM("scripted/test", engine=ScriptedEngine(*texts), cache=False, num_retries=0)
        contexts.append(dspy.context(lm=lm))
        contexts[-1].__enter__()
        return lm

    contexts = []
    yield make
    for context in reversed(contexts):
        context.__exit__(None, None, None)


def test_answer_row_has_evidence_and_usage(model, tmp_path):
    invented = '[{"item": "9", "quote": "a castle"}, {"item": "2", "quote": "a wizard"}]'
    preferences = '[{"statement": "wizards", "items": ["2"], "label": "fantasy"}]'
    wrong = completion(evidence=invented, preferences=preferences)
    model(lambda request: completion() if number_of(request) else wrong)
    go(write(tmp_path, [row(1, id=1), row(0)]))
    clean, cited = lines(tmp_path / "out.jsonl")
    assert (clean.pop("completion"), clean.pop("reasoning")["draft"]) == (completion(), "romance")
    assert clean == {
        "id": "1",
        "tag": "romance",
        "evidence": [{"item": "m7", "quote": "a lighthouse"}],
        "violations": [],
        "warnings": [],
        "usage": {"calls": 1, "prompt_tokens": 10, "completion_tokens": 5},
    }
    assert cited["evidence"] == [{"item": "m9", "quote": "a wizard"}], "the user's own ids, and no invented ones"
    (unmet,) = cited["violations"]
    assert unmet.keys() == {"check", "kind", "message"} and unmet["kind"] == "assert" and "9" in unmet["message"]
    assert cited["usage"] == {"calls": 3, "prompt_tokens": 30, "completion_tokens": 15}, "two backtracks"


def test_redacted_rows_have_no_texts(model, tmp_path):
    wrong = completion(evidence='[{"item": "1", "quote": "a castle"}]')
    model(lambda request: {0: completion(), 1: wrong}.get(number_of(request), "no field but a whale"))
    go(write(tmp_path, [row(0), row(1), row(2)]), redact=True, threads=1)
    clean, unmet = lines(tmp_path / "out.jsonl")
    assert clean["evidence"] == [{"item": "m7"}] and not {"reasoning", "completion"} & clean.keys()
    assert all(violation.keys() == {"check", "kind"} for violation in unmet["violations"]) and unmet["violations"]
    (failed,) = lines(tmp_path / "out.failed.jsonl")
    assert failed["cause"] == "malformed" and "completion" not in failed and "whale" not in failed["error"]


def test_task_field_names_win(model, tmp_path):
    class Used(dspy.Signature):
        film: str = dspy.InputField()
        profile: Profile = dspy.InputField()
        usage: list[int] = dspy.OutputField()

    model(completion(draft="[1, 2]").replace("[[ ## tag ## ]]\nromance", "[[ ## usage ## ]]\n[1, 2]"))
    source, task = write(tmp_path, [row(1)]), Task("used", Used, "film", "usage", ("text",), ("rouge1",))
    with PredictionWriter(tmp_path / "out.jsonl", {"input": ""}, source) as settled:
        predict(R2P(Used, on_unmet="return"), task, source, settled)
    (answer,) = lines(tmp_path / "out.jsonl")
    assert answer["usage"] == [1, 2] and answer["evidence"]


@pytest.mark.parametrize(("on_unmet", "answers", "failures"), [("return", ["r0", "r1"], []), ("raise", ["r0"], ["r1"])])
def test_unmet_assert_is_an_answer_or_a_failure(model, tmp_path, on_unmet, answers, failures):
    invented = completion(evidence='[{"item": "9", "quote": "a castle"}]')
    model(lambda request: invented if number_of(request) else completion())
    go(write(tmp_path, [row(0), row(1)]), module=program(on_unmet=on_unmet))
    assert [answer["id"] for answer in lines(tmp_path / "out.jsonl")] == answers
    failed = lines(tmp_path / "out.failed.jsonl")
    assert [failure["id"] for failure in failed] == failures
    assert all(failure["error"].startswith("after 3 attempts the check 'cited' still fails") for failure in failed)


def test_faulty_check_stops_the_run(model, tmp_path):
    def faulty(inputs, outcome):
        return {}[inputs.film]

    model(answer)
    with pytest.raises(CheckError, match="check 'faulty' failed with KeyError") as caught:
        go(write(tmp_path, [row(0), row(1)]), module=program(checks=[Suggest(faulty)]))
    assert caught.value.__notes__ == ["this was line 1; --skip r0 leaves it out"]
    assert results(tmp_path) == ([], []), "no row is at fault"


def test_answers_keep_input_order(model, tmp_path):
    rest = threading.Event()
    done = itertools.count(1)

    def late(request):
        if number_of(request) == 0:
            assert rest.wait(30)
        elif next(done) == 31:
            rest.set()
        return answer(request)

    model(late)
    go(write(tmp_path, map(row, range(40))))
    assert [answer["id"] for answer in lines(tmp_path / "out.jsonl")] == [f"r{n}" for n in range(40)]
    assert [answer["tag"] for answer in lines(tmp_path / "out.jsonl")] == [f"tag {n}" for n in range(40)]


def test_slow_row_bounds_rows_ahead(model, tmp_path):
    release, numbers = threading.Event(), []

    def slow(request):
        numbers.append(number_of(request))
        if numbers[-1] == 0:
            assert release.wait(30)
        return answer(request)

    model(slow)
    source = write(tmp_path, map(row, range(200)))
    thread = threading.Thread(target=copy_context().run, args=(go, source))
    thread.start()
    until(lambda: len(numbers) >= 32)
    time.sleep(0.2)
    assert len(numbers) == 32 and results(tmp_path) == ([], []), "eight for each of the four threads"
    release.set()
    thread.join(60)
    assert results(tmp_path) == ([f"r{n}" for n in range(200)], [])


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_written_rows_are_not_kept_in_memory(model, tmp_path):
    lm, module = model(answer), program()
    before = len(GLOBAL_HISTORY), len(dspy.settings.trace)
    go(write(tmp_path, map(row, range(20))), module=module)
    assert (len(GLOBAL_HISTORY), len(dspy.settings.trace)) == before
    assert not lm.history and not module.history and not module.reason.history


FLAWED = [
    (b"{half a row", "not valid JSON"),
    (b"\xff\xfe", "not valid JSON"),
    (b"[" * 100_000, "not valid JSON"),
    (["a", "list"], "not an object"),
    ({"film": "x", "profile": []}, "it has no id"),
    (row(1, id=True), "it has no id"),
    (row(0), "the id r0 stands in line 1 too"),
    (row(1, film=None), "its film is None, not a text; it has id, film, profile"),
    (row(1, film=" "), "its film is ' ', not a text"),
    (row(1, profile=None), "its profile is None, not a list"),
    (row(1, profile={"m": 1}), "not a list"),
    (row(1, profile=["text"]), "item 1: it has no id"),
    (row(1, profile=[["text"]]), "item 1: it has no id"),
    (row(1, profile=[*HISTORY, HISTORY[0]]), "item m7: the profile has this id twice"),
    (row(1, profile=[{"id": "a", "label": "romance"}]), "item a: its text is None"),
    (row(1, profile=[{"id": "a", "text": "x", "label": "boring"}]), "item a: its label is 'boring'"),
    (row(1, id="skipped"), "row skipped is left out"),
]


@pytest.mark.parametrize(("flawed", "why"), FLAWED, ids=[str(why) for _, why in FLAWED])
def test_flawed_row_is_a_failed_row(model, tmp_path, flawed, why):
    model(answer)
    settled = go(write(tmp_path, [row(0), b"  ", flawed, row(2)]), skip={"skipped"})
    assert (settled.answered, settled.failed) == (2, 1)
    assert results(tmp_path) == (["r0", "r2"], [3])
    (failure,) = lines(tmp_path / "out.failed.jsonl")
    assert failure.keys() == {"id", "line", "error"}
    assert why in failure["error"] and failure["error"].startswith("line 3") and "\n" not in failure["error"]


FILMS = Task("lamp-like", Film, "film", "tag", ("title", "text"), ("accuracy",), label="mood", labels=("sad", "gay"))
RAIN = {"id": "a", "title": "Rain", "text": "It rained.", "mood": "sad"}


@pytest.mark.parametrize(
    ("why", "history", "items"),
    [
        ("the task's names", {"profile": [RAIN]}, [("a", "Rain It rained.", "sad")]),
        ("other names", {"history": [{"title": "Rain", "text": "Wet.", "label": "gay"}]}, [("1", "Rain Wet.", "gay")]),
        ("a blank id", {"profile": [{**RAIN, "id": None}]}, [("1", "Rain It rained.", "sad")]),
        ("a blank title", {"profile": [{**RAIN, "title": None}]}, [("a", " It rained.", "sad")]),
        (
            "blank items",
            {"profile": [None, {**RAIN, "title": None, "text": " "}, RAIN]},
            [("a", "Rain It rained.", "sad")],
        ),
    ],
)
def test_rows_of_other_shapes(tmp_path, why, history, items):
    (row,) = read(FILMS, write(tmp_path, [{"id": 1, "film": "x", **history}]))
    profile = arguments(FILMS, tmp_path / "rows.jsonl", row)["profile"]
    assert [(item.id, item.text, item.label) for item in profile] == items
    assert profile.dropped == sum(map(len, history.values())) - len(items)


def test_warnings_of_an_answer(model, tmp_path):
    model(completion())
    go(write(tmp_path, [row(0), row(1, profile=[*HISTORY, None])]))
    warnings = [answer["warnings"] for answer in lines(tmp_path / "out.jsonl")]
    assert warnings == [[], ["entries of the history that hold no text were left out: 1"]]


def test_rows_in_lamp_wording(tmp_path):
    task = lamp2.TASK
    item = {"id": "m1", "description": "A diver.", "tag": "romance"}
    source = write(
        tmp_path,
        [b"\xef\xbb\xbf" + json.dumps({"id": "1", "input": task.wording("A storm."), "profile": [item]}).encode()],
    )
    (row,) = read(task, source)
    assert arguments(task, source, row)["description"] == "A storm."


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("I would rather not.", "the answer cannot be read: the field requirements is missing;"),
        (InvalidRequestError("content policy"), "a content filter keeps the prompt from the model"),
        (ContextLengthError("too long"), "too long"),
        (InvalidRequestError("no such parameter"), "no such parameter"),
    ],
)
def test_row_fault_is_a_failed_row(model, tmp_path, fault, why):
    model(lambda request: fault if number_of(request) == 3 else answer(request))
    source = write(tmp_path, map(row, range(6)))
    assert go(source).failed == 1
    (failure,) = lines(tmp_path / "out.failed.jsonl")
    assert (failure["line"], failure["id"]) == (4, "r3") and why in failure["error"]
    assert results(tmp_path) == (["r0", "r1", "r2", "r4", "r5"], [4])


STOPS = [
    AuthError,
    BillingError,
    RateLimitError,
    TransportError,
    UnsupportedModelError,
    RuntimeError,
]


@pytest.mark.parametrize("kind", STOPS)
def test_model_that_is_away_fails_no_row(model, tmp_path, kind):
    model(lambda request: kind("not now") if number_of(request) >= 5 else answer(request))
    source = write(tmp_path, map(row, range(30)))
    with pytest.raises(LMError, match="not now") as caught:
        go(source)
    assert caught.value.__notes__ == ["this was line 6; --skip r5 leaves it out"]
    assert results(tmp_path) == ([f"r{n}" for n in range(5)], [])
    model(answer)
    go(source, resume=True)
    assert results(tmp_path) == ([f"r{n}" for n in range(30)], [])


@pytest.mark.parametrize("kind", [RateLimitError, ServerError, TimeoutError, TransportError])
@pytest.mark.parametrize("failing", [{0}, {4}, {2, 3, 11}])
def test_server_that_fails_one_row_answers_the_others(model, tmp_path, kind, failing):
    model(lambda request: kind("not you") if number_of(request) in failing else answer(request))
    assert go(write(tmp_path, map(row, range(20)))).answered == 20 - len(failing)
    failures = lines(tmp_path / "out.failed.jsonl")
    assert [failure["id"] for failure in failures] == [f"r{n}" for n in sorted(failing)]
    causes = {RateLimitError: "rate_limit", ServerError: "server", TimeoutError: "timeout"}
    assert {failure["cause"] for failure in failures} == {causes.get(kind, "connection")}
    assert all("not you" in failure["error"] for failure in failures)


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_server_that_was_never_there(model, tmp_path, count):
    model(TransportError("refused"))
    with pytest.raises(LMError, match="refused"):
        go(write(tmp_path, map(row, range(count))))
    assert results(tmp_path) == ([], [])


@pytest.mark.parametrize(("kind", "blamed"), [(TransportError, False), (TimeoutError, True)])
def test_failure_of_the_last_row(model, tmp_path, kind, blamed):
    """A server that cannot be reached any more is away; one that does not answer this row may answer others."""
    done = threading.Event()

    def last(request):
        if number_of(request) == 5:
            assert done.wait(30)
            return kind("not now")
        return answer(request)

    model(last)
    source = write(tmp_path, map(row, range(6)))
    threading.Thread(target=lambda: (until(lambda: len(results(tmp_path)[0]) == 5), done.set())).start()
    if blamed:
        assert go(source).failed == 1
    else:
        with pytest.raises(LMError, match="not now"):
            go(source)
    assert results(tmp_path) == ([f"r{n}" for n in range(5)], [6] if blamed else [])


def test_row_that_blocks_is_skipped_and_recorded(model, tmp_path):
    model(lambda request: AuthError("no") if number_of(request) == 2 else answer(request))
    source = write(tmp_path, map(row, range(9)))
    with pytest.raises(LMError):
        go(source, skip={"r0"})
    go(source, resume=True, skip={"r0", "r2"})
    assert results(tmp_path) == ([f"r{n}" for n in (1, *range(3, 9))], [1, 3])
    go(source, resume=True)
    assert json.loads((tmp_path / "out.run.json").read_text())["skipped"] == ["r0", "r2"], "of every resumed run"


@pytest.mark.parametrize("kind", [ServerError, TimeoutError, ProviderError])
def test_call_without_an_answer_is_a_failed_row(model, tmp_path, kind):
    model(lambda request: kind("no answer within 120 s") if number_of(request) in (3, 5) else answer(request))
    assert go(write(tmp_path, map(row, range(9)))).failed == 2
    failure, _ = lines(tmp_path / "out.failed.jsonl")
    assert failure["line"] == 4 and "no answer within 120 s" in failure["error"]


@pytest.mark.parametrize("kind", [ServerError, TimeoutError, ProviderError])
def test_server_that_answers_no_row_any_more_fails_no_row(model, tmp_path, kind):
    model(lambda request: kind("not now") if number_of(request) >= 5 else answer(request))
    source = write(tmp_path, map(row, range(99)))
    with pytest.raises(LMError, match="not now"):
        go(source, threads=16)
    assert results(tmp_path) == ([f"r{n}" for n in range(5)], [])


@pytest.mark.parametrize("kind", [ServerError, TimeoutError, ProviderError])
def test_server_that_never_answered_fails_no_row(model, tmp_path, kind):
    model(lambda request: kind("not now"))
    with pytest.raises(LMError, match="not now"):
        go(write(tmp_path, map(row, range(9))))
    assert results(tmp_path) == ([], [])


def test_retries_server_that_has_answered(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("dspy.clients.execution.time.sleep", waits.append)
    down = {"until": 0}

    def unsteady(request):
        if number_of(request) == 30 and down["until"] < 6:
            down["until"] += 1
            return TransportError("reset")
        return answer(request)

    with dspy.context(lm=dspy.LM("scripted/test", engine=ScriptedEngine(unsteady), cache=False, num_retries=3)):
        assert go(write(tmp_path, map(row, range(31))), threads=1).answered == 31
    assert waits == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("why", "row_of"),
    [
        ("a model that cannot write the format", lambda n: row(n)),
        ("rows of another task", lambda n: {"id": n, "text": "x"}),
    ],
)
def test_run_stops_when_all_rows_fail(model, tmp_path, why, row_of):
    model("I would rather not.")
    source = write(tmp_path, map(row_of, range(MOST + 30)))
    with pytest.raises(RunError, match=f"{MOST} rows failed one after another, the first at line 1: .*--resume"):
        go(source, config={"k": 4}.items())
    assert results(tmp_path) == ([], []), "no row is blamed"
    model(answer)
    write(tmp_path, map(row, range(3)))
    assert go(source, config={"k": 8}.items()).answered == 3


def test_flawed_rows_do_not_stop_good_run(model, tmp_path):
    model(lambda request: "?" if number_of(request) % 2 else answer(request))
    settled = go(write(tmp_path, [row(0), row(1), *[{"id": n} for n in range(2 * MOST)], row(3), row(4)]))
    assert (settled.answered, settled.failed) == (2, 2 * MOST + 2)
    failed = [row["line"] for row in lines(tmp_path / "out.failed.jsonl")]
    assert failed == sorted(failed)


MIXED = [
    b"{half" if n % 5 == 4 else row(n, id=f"雨{n}" if n % 2 else f"\ud83d{n}") for n in range(14)
]  # with characters of several bytes


def mixed(request):
    return "I would rather not." if number_of(request) % 3 == 2 else answer(request)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped: its folder, and what it wrote in the order in which it did."""
    folder = tmp_path_factory.mktemp("whole")
    source = write(folder, MIXED)
    with dspy.context(lm=dspy.LM("scripted/test", engine=ScriptedEngine(mixed), cache=False)):
        go(source)
    answers = (folder / "out.jsonl").read_bytes().splitlines(keepends=True)
    failures = (folder / "out.failed.jsonl").read_bytes().splitlines(keepends=True)
    failed = [json.loads(line)["line"] for line in failures]
    written = [(failures if n in failed else answers).pop(0) for n in range(1, len(MIXED) + 1)]
    return folder, [("out.failed.jsonl" if n in failed else "out.jsonl", row) for n, row in enumerate(written, 1)]


@given(share=st.floats(0, 1))
def test_kill_at_any_byte_loses_no_row(whole, tmp_path_factory, share):
    folder, written = whole
    stopped = tmp_path_factory.mktemp("stopped")
    for name in ("rows.jsonl", "out.run.json"):
        (stopped / name).write_bytes((folder / name).read_bytes())
    left = round(share * sum(len(line) for _, line in written))
    for name, line in written:
        with (stopped / name).open("ab") as file:
            file.write(line[:left])
        left = max(0, left - len(line))
    with dspy.context(lm=dspy.LM("scripted/test", engine=ScriptedEngine(mixed), cache=False)):
        go(stopped / "rows.jsonl", resume=True)
    for name in ("out.jsonl", "out.failed.jsonl"):
        assert (stopped / name).read_bytes() == (folder / name).read_bytes()


PROCESS = """
import sys, time, random, dspy
from pathlib import Path
from tests.programs.predict.test_predict import ScriptedEngine, go, mixed

def slow(request):
    time.sleep(random.random() / 20)
    return mixed(request)

with dspy.context(lm=dspy.LM("scripted/test", engine=ScriptedEngine(slow), cache=False)):
    go(Path(sys.argv[1]), resume=sys.argv[2] == "resume")
"""


def test_repeatedly_killed_process(tmp_path):
    rows = [b"{half" if n % 7 == 6 else row(n) for n in range(60)]
    source, rng = write(tmp_path, rows), random.Random(0)
    sizes = [tmp_path / "out.jsonl", tmp_path / "out.failed.jsonl"]

    def settled():
        return sum(path.read_bytes().count(b"\n") for path in sizes if path.exists())

    for stop in (rng.randint(1, 15), rng.randint(16, 35), rng.randint(36, 55), None):
        command = [sys.executable, "-c", PROCESS, str(source), "resume" if sizes[0].exists() else "begin"]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        if stop is None:
            assert process.wait(120) == 0, process.stderr.read()
        else:
            until(lambda stop=stop: settled() >= stop)
            process.send_signal(signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
            assert settled() < len(rows)
        process.stderr.close()
    failed = [n + 1 for n in range(60) if n % 7 == 6 or n % 3 == 2]
    assert results(tmp_path) == ([f"r{n}" for n in range(60) if n + 1 not in failed], failed)


def changed_input(folder):
    write(folder, [*map(row, range(6)), row(7)])


def lost_failures(folder):
    (folder / "out.failed.jsonl").unlink()


def lost_answer(folder):
    path = folder / "out.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def doubled_answer(folder):
    path = folder / "out.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1])


def broken_record(folder):
    (folder / "out.run.json").write_text("{")


def lost_record(folder):
    (folder / "out.run.json").unlink()


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (changed_input, {"resume": True}, "rows.jsonl is not the input that .*out.jsonl was begun with, or has"),
        (nothing, {"resume": True, "config": {"k": 8}.items()}, "was started with no --k, not with --k 8"),
        (nothing, {}, "out.jsonl is there already; add --resume"),
        (lost_failures, {"resume": True}, "line 3 of .*rows.jsonl is not done, but later ones are"),
        (lost_answer, {"resume": True}, "line 1 of .*rows.jsonl is not done, but later ones are"),
        (doubled_answer, {"resume": True}, "hold more than .*rows.jsonl"),
        (broken_record, {"resume": True}, "out.run.json cannot be read"),
        (lost_record, {"resume": True}, "out.jsonl is there already, and not from an unfinished run"),
    ],
)
def test_mismatched_files_are_refused(model, tmp_path, change, options, said):
    model(mixed)
    source = write(tmp_path, map(row, range(6)))
    go(source)
    change(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match=said) as caught:
        go(source, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_run_that_was_killed_before_its_record_begins_anew(model, tmp_path):
    model(answer)
    (tmp_path / "out.jsonl").touch()
    go(write(tmp_path, [row(1)]))
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_nothing_to_resume(model, tmp_path):
    model(answer)
    with pytest.raises(RunError, match="no run of .*out.jsonl to resume; leave out --resume"):
        go(write(tmp_path, [row(1)]), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_second_process_is_refused(model, tmp_path):
    model(answer)
    source = write(tmp_path, map(row, range(3)))
    with PredictionWriter(tmp_path / "out.jsonl", {"input": survey(TASK, source)[1]}, source):
        for resume in (False, True):
            with pytest.raises(RunError, match="another process is writing"):
                go(source, resume=resume)
    assert go(source, resume=True).answered == 3
    assert go(source, resume=True).answered == 3, "and a finished one can be resumed, to no effect"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_full_disk_is_one_line(tmp_path):
    with PredictionWriter(tmp_path / "out.jsonl", {"input": ""}, tmp_path / "rows.jsonl") as settled:
        (tmp_path / "out.jsonl").unlink()
        (tmp_path / "out.jsonl").symlink_to("/dev/full")
        with pytest.raises(RunError, match=r"cannot write to .*out.jsonl: No space left on device; .*--resume"):
            settled.answer({"id": "r1"})
