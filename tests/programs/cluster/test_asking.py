"""What is sent to workers is whole: rows are the same, whichever process made them. And one keeps all calls."""

import pickle
import sys

import dspy
import pytest

from programs.calls.cache import Call, Usage
from programs.calls.usage import UsageLimiter
from programs.cluster.errors import as_bytes
from programs.cluster.keeper import Keeper
from programs.data.dataset import personas
from programs.evaluate.ablation import ablation
from programs.evaluate.baselines import baselines
from programs.evaluate.controls import controls
from programs.evaluate.runner import measure
from programs.runs.directory import Rows
from programs.tasks import lamp2
from programs.tasks.program import r2p
from programs.tasks.task_file import task_of
from r2p_dspy.errors import CheckError
from tests.programs.cluster.pickled import Pickled
from tests.scripted import ScriptedEngine, tagged
from tests.test_cli import run

TASK = lamp2.TASK
EXAMPLES = personas(TASK, seed=0, limit=3).test
PROGRAM = r2p(TASK)
PROGRAMS = {
    **baselines(TASK),
    "r2p": PROGRAM,
    **ablation(PROGRAM, TASK),
    **controls(PROGRAM, TASK, EXAMPLES, k=2, seed=0),
}
TIMES = {"seconds", "latency"}


@pytest.fixture
def scripted():
    """A model that cites the first item of each prompt."""
    engine = ScriptedEngine(lambda request: tagged(request.messages[-1].text, "comedy"))
    with dspy.context(lm=dspy.LM("openai/scripted", engine=engine, cache=False, num_retries=0)):
        yield


def measured(folder, program, task, examples, each=None):
    rows, transcripts = Rows(folder / "rows.jsonl"), Rows(folder / "transcripts.jsonl")
    measure(program, examples, task, rows, 1, lambda: None, transcripts=transcripts, each=each)
    return [{name: value for name, value in row.items() if name not in TIMES} for row in (*rows, *transcripts)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_was_sent_makes_the_same_rows(scripted, tmp_path, name):
    pytest.importorskip("ray")
    here = measured(tmp_path / "here", PROGRAMS[name], TASK, EXAMPLES)
    sent = measured(tmp_path / "sent", PROGRAMS[name], TASK, EXAMPLES, Pickled())
    assert len(here) == 2 * len(EXAMPLES) and sent == here


OWN = '''
import dspy
from programs.tasks.task import Task
from r2p_dspy import Profile, Suggest

LIMIT = 3


class Subject(dspy.Signature):
    """Write the subject."""

    mail: str = dspy.InputField()
    profile: Profile = dspy.InputField()
    subject: str = dspy.OutputField()


def short(inputs, outcome):
    return len(outcome.subject) < LIMIT, "Be brief."


TASK = Task("own", Subject, "mail", "subject", ("subject",), ("rouge1",), checks=(Suggest(short),))
'''


def test_what_a_task_file_defines_is_sent_whole(tmp_path):
    pytest.importorskip("ray")
    from programs.cluster.asking import packed

    file = tmp_path / "own.py"
    file.write_text(OWN)
    contents = packed([r2p(task_of(str(file)))], [str(file)])
    del sys.modules["task_file_own"]  # as on a node, which lacks the file
    (program,) = pickle.loads(contents)
    assert "short" in [check.name for check in program.checks]


def test_a_keeper_keeps_and_counts_the_calls_of_all_workers(tmp_path):
    keeper, call = Keeper(tmp_path / "calls", "run", True), Call(["an answer"], usage=Usage(1, 5, 2, 0.1, 3.0))
    assert keeper.get("key") == (None, "") and keeper.put("key", "m", call, "ada") == ""
    keeper.count(call.usage, False)
    keeper.close()
    again = Keeper(tmp_path / "calls", "run", True)  # Ray has started it again
    assert again.get("key") == (call, "")
    again.count(call.usage, True)
    limiter = UsageLimiter()
    for part in (keeper, again, again):
        limiter.include(*part.take())
    assert limiter.usage == limiter.replayed == call.usage and limiter.report()["latency"]["mean"] == 3.0


def test_a_broken_cache_is_data(tmp_path):
    keeper = Keeper(tmp_path / "calls", "run", True)
    keeper.close()
    _, failure = keeper.get("key")
    assert "cannot read" in failure and "cannot write" in keeper.put("key", "m", Call(["an answer"]), None)


def test_an_error_comes_back_as_itself_with_the_users_frames():
    try:
        raise CheckError("check short failed") from ZeroDivisionError("division by zero")
    except CheckError as failed:
        error = pickle.loads(as_bytes(failed))
    assert type(error) is CheckError and str(error) == "check short failed"
    assert "ZeroDivisionError: division by zero" in error.traceback


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["evaluate", "--ray", "host"], "--ray host: write HOST:PORT"),
        (["evaluate", "--ray", "--mlflow", "folder"], "--mlflow keeps calls of this process"),
        (["evaluate", "--ray", "--ray-workers", "0"], "--ray-workers"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, arguments, says):
    result = run(*arguments, "--model", "openai/m", "--limit", 2, "--output", tmp_path / "run")
    assert result.exit_code == 2 and says in result.stderr, result.output
    assert not (tmp_path / "run").exists()
