"""A user's task file: what comes out of good ones, and the one line that comes out of bad ones."""

import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import programs
from metrics.lamp import METRICS
from programs.tasks.program import resolve
from programs.tasks.retrievers import default_retriever
from programs.tasks.task import TaskError
from programs.tasks.task_file import task_of
from programs.tasks.yaml_files.answer_checks import READY_CHECKS, CheckArguments
from r2p_dspy import Inputs, Outcome, Profile
from r2p_dspy.values.words import turkish_words, words

REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)

GOOD = """\
task: mails
instructions: Write the subject.
inputs: {mail: the mail}
profile: {fields: [subject, text]}
answer: {subject: the subject}
metrics: [rouge1, rougeL]
"""
STARS = """\
task: stars
instructions: Rate it.
inputs:
  remark: what was said
  place: where
profile:
  fields: [remark]
  label: stars
answer:
  stars: the rating
labels: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
metrics: [mae, accuracy]
query: place
checks:
  assert: {one_line: true}
  suggest:
    max_words: 1
"""


def written(folder, text, name="task.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_yaml_file_becomes_task(tmp_path):
    task = task_of(written(tmp_path, STARS))
    assert (task.name, task.question, task.answer, task.inputs) == ("stars", "place", "stars", ("remark", "place"))
    assert (task.fields, task.label, task.metrics) == (("remark",), "stars", ("mae", "accuracy"))
    assert task.labels == tuple(map(str, range(11)))
    assert task.signature.instructions == "Rate it."
    assert task.signature.input_fields["profile"].annotation is Profile
    assert task.signature.output_fields["stars"].json_schema_extra["desc"] == "the rating"
    assert [(check.kind, check.name) for check in task.checks] == [("assert", "one_line"), ("suggest", "max_words")]


def test_yaml_file_names_template_and_question_of_items(tmp_path):
    fields = "{fields: [subject, date_line, text]"
    text = GOOD.replace("{fields: [subject, text]", f"{fields}, asked: text") + "template: outline\n"
    path = written(tmp_path, text)
    assert task_of(path).turns == {"mail": "text", "subject": "subject"}
    assert resolve({}, None, path).template == "outline"
    assert resolve({"template": "brief"}, None, path).template == "brief"
    assert resolve({}, None, path, "lamp2").template == "full"  # these tasks do not agree
    without = task_of(written(tmp_path, GOOD.replace("{fields: [subject, text]", fields)))
    assert without.turns == {} and without.template == "full"  # text or date_line may be the question


def test_labels_stay_texts(tmp_path):
    text = GOOD.replace("metrics: [rouge1, rougeL]", "metrics: [accuracy]\nlabels: [yes, no, ~, 1.0, 2020-01-01, 0o7]")
    assert task_of(written(tmp_path, text)).labels == ("yes", "no", "~", "1.0", "2020-01-01", "0o7")


@pytest.mark.parametrize("name", ["task.yml", "mein Ordner.yaml"])
@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_byte_order_mark_and_crlf(tmp_path, name, change):
    assert task_of(written(tmp_path, change(GOOD), name)).name == "mails"


# What is changed in a good file, the line that is at fault, and what is said of it.
FAULTS = [
    ("metrics:", "metric:", 6, "unknown key 'metric'; did you mean 'metrics'?"),
    ("metrics:", "zzz:", 6, "unknown key 'zzz'; known: task, instructions"),
    ("[rouge1, rougeL]", "[rouge1, rougel]", 6, "unknown metric 'rougel'; did you mean 'rougeL'?"),
    ("[rouge1, rougeL]", "\n- rouge1\n- roug2", 8, "unknown metric 'roug2'; did you mean 'rouge"),
    ("[rouge1, rougeL]", "[bleu]", 6, "unknown metric 'bleu'; known: accuracy, f1"),
    ("[rouge1, rougeL]", "[rouge1, rouge1]", 6, "duplicate metric 'rouge1'"),
    ("[rouge1, rougeL]", "[]", 6, "needs a metric"),
    ("[rouge1, rougeL]", "rouge1", 6, "metrics is 'rouge1', not a list"),
    ("[rouge1, rougeL]", "[[rouge1]]", 6, "not a text"),
    ("[rouge1, rougeL]", "[accuracy]", 6, "accuracy needs labels"),
    ("[rouge1, rougeL]", "[mae]\nlabels: [good, bad]", 6, "mae needs labels that are numbers"),
    ("[rouge1, rougeL]", "[mae]\nlabels: [1, nan]", 6, "mae needs labels that are numbers"),
    ("[rouge1, rougeL]", "[accuracy]\nlabels: [a, b, a]", 7, "duplicate label 'a'"),
    ("[rouge1, rougeL]", "[accuracy]\nlabels:\n- a\n- ' b'", 9, "without spaces around it, not ' b'"),
    ("[rouge1, rougeL]", "[accuracy]\nlabels: [a]", 7, "one label leaves nothing to choose"),
    ("[rouge1, rougeL]", "[accuracy]\nlabels: {a: b}", 7, "labels is a mapping, not a list"),
    ("metrics:", "query: mial\nmetrics:", 6, "unknown input 'mial'; did you mean 'mail'?"),
    ("metrics:", "query: subject\nmetrics:", 6, "unknown input 'subject'; known: mail"),
    ("metrics:", "task: mails\nmetrics:", 6, "duplicate key 'task'"),
    ("{fields: [subject, text]}", "{field: [subject, text]}", 4, "unknown key 'field'; did you mean 'fields'?"),
    ("{fields: [subject, text]}", "\n  fields: [text]\n  labels: a", 6, "unknown key 'labels'; did you mean 'label'?"),
    ("{fields: [subject, text]}", "{fields: [text, text]}", 4, "duplicate field 'text'"),
    ("{fields: [subject, text]}", "{fields: []}", 4, "at least one field"),
    ("{fields: [subject, text]}", "{fields: [id, text]}", 4, "cannot be named 'id'"),
    ("{fields: [subject, text]}", "{fields: text}", 4, "fields is 'text', not a list"),
    ("{fields: [subject, text]}", "[subject, text]", 4, "not a mapping of keys to values"),
    ("{fields: [subject, text]}", "{fields: [text], label: text}", 4, "'text' is a field already"),
    ("{fields: [subject, text]}", "{fields: [text], label: tag}", 4, "one of the task's labels"),
    (
        "{fields: [subject, text]}",
        "{fields: [subject, text], asked: txt}",
        4,
        "unknown field 'txt'; did you mean 'text'",
    ),
    ("metrics:", "template: outlines\nmetrics:", 6, "unknown template 'outlines'; did you mean 'outline'?"),
    ("metrics:", "template: [brief]\nmetrics:", 6, "template is a list, not a text"),
    ("profile:", "profil:", 4, "unknown key 'profil'; did you mean 'profile'?"),
    ("profile: {fields: [subject, text]}\n", "", 1, "profile is missing"),
    ("profile: {fields: [subject, text]}", "profile: {desc: mails}", 4, "fields is missing in profile"),
    ("profile: {fields: [subject, text]}", "profile:", 4, "profile is '', not a mapping of keys to values"),
    ("{mail: the mail}", "{}", 3, "inputs is a mapping, not one name"),
    ("{mail: the mail}", "[mail]", 3, "inputs is a list, not a mapping of keys to values"),
    ("{mail: the mail}", "{the mail: x}", 3, "one word of letters"),
    ("{mail: the mail}", "{config: x}", 3, "cannot be named 'config'"),
    ("{mail: the mail}", "{copy: x}", 3, "cannot be named 'copy'"),
    ("{mail: the mail}", "{profile: x}", 3, "duplicate field 'profile'"),
    ("{mail: the mail}", "{subject: x}", 3, "duplicate field 'subject'"),
    ("{mail: the mail}", "{mail: {a: b}}", 3, "not a text"),
    ("{mail: the mail}", "\n  mail: x\n  mail: y", 5, "duplicate key 'mail'"),
    ("{subject: the subject}", "{subject: x, title: y}", 5, "not one name and what it is"),
    ("{subject: the subject}", "{reasoning: x}", 5, "cannot be named 'reasoning'"),
    ("{subject: the subject}", "subject", 5, "answer is 'subject', not a mapping of keys to values"),
    ("task: mails", "task: ../mails", 1, "a task's name has only letters"),
    ("task: mails", "task: ''", 1, "a task's name has only letters"),
    ("task: mails", "task: [mails]", 1, "not a text"),
    ("instructions: Write the subject.", "instructions:", 2, "instructions is '', not a text"),
    ("instructions: Write the subject.", "instructions: ' '", 2, "instructions is ' ', not a text"),
    ("metrics:", "checks: {suggest: {avoid: [asap, ' ']}}\nmetrics:", 6, "entry 2 of avoid is ' ', not a text"),
    ("instructions: Write the subject.", "instructions: do: it", 2, "mapping values are not allowed"),
    ("metrics:", "checks: {suggest: {max_word: 9}}\nmetrics:", 6, "unknown check 'max_word'; did you mean 'max_words'"),
    ("metrics:", "checks:\n  suggest:\n    max_words: many\nmetrics:", 8, "max_words is 'many', not a whole number"),
    ("metrics:", "checks: {suggest: {max_words: 0}}\nmetrics:", 6, "max_words is '0', not at least 1"),
    ("metrics:", "checks: {suggest: {one_line: perhaps}}\nmetrics:", 6, "not true or false"),
    ("metrics:", "checks: {suggest: {avoid: asap}}\nmetrics:", 6, "avoid is 'asap', not a list"),
    ("metrics:", "checks: {sugest: {max_words: 9}}\nmetrics:", 6, "unknown key 'sugest'; did you mean 'suggest'?"),
    ("metrics:", "checks: [max_words]\nmetrics:", 6, "checks is a list, not a mapping of keys to values"),
    ("metrics:", "checks:\n  assert: {max_words: 3}\n  suggest: {max_words: 2}\nmetrics:", 8, "max_words is an assert"),
    ("metrics:", "metrics: [\n", 8, "expected"),
    ("metrics:", "\tmetrics:", 6, "cannot start any token"),
    ("metrics:", "extra: &a [*a]\nmetrics:", 6, "recursive"),
    ("metrics:", "? [a, b]\n: c\nmetrics:", 6, "unhashable key"),
    ("metrics:", "---\nmetrics:", 6, "another document"),
    ("metrics:", "metrics: [*there]", 6, "undefined alias"),
    (GOOD, "", 1, "it is empty"),
    (GOOD, "# nothing yet\n", 1, "it is empty"),
    (GOOD, "- task\n- mails\n", 1, "not a list"),
    (GOOD, "mails", 1, "not 'mails'"),
]


@pytest.mark.parametrize(("before", "after", "line", "expected"), FAULTS, ids=[f"{row[1]!r}"[:40] for row in FAULTS])
def test_yaml_fault_names_its_line(tmp_path, before, after, line, expected):
    assert before in GOOD
    path = written(tmp_path, GOOD.replace(before, after))
    with pytest.raises(TaskError) as caught:
        task_of(path)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(f"{path}: line {line}: ")
    assert message.splitlines() == [message]


def test_exponential_aliases_are_refused_at_once(tmp_path):
    nested = "&x0 [ha]" + "".join(f", &x{n} [*x{n - 1}, *x{n - 1}, *x{n - 1}]" for n in range(1, 60))
    with pytest.raises(TaskError, match="line 6: entry 1 of metrics is a list, not a text"):
        task_of(written(tmp_path, GOOD.replace("[rouge1, rougeL]", f"[{nested}]")))
    with pytest.raises(TaskError, match="line 1: .*key"):
        task_of(written(tmp_path, f"? [{nested}]\n: x\n{GOOD}"))


@pytest.mark.parametrize("text", ["\0", "a: \x07", "[" * 100_000, "{a: " * 100_000], ids=["nul", "bell", "[[[", "{{{"])
def test_not_yaml(tmp_path, text):
    with pytest.raises(TaskError, match=r"task.yaml: .*docs/your-task.md"):
        task_of(written(tmp_path, text))


def test_yaml_is_not_run(tmp_path):
    mark = tmp_path / "mark"
    text = GOOD.replace("task: mails", f'task: !!python/object/apply:os.mkdir ["{mark}"]')
    with pytest.raises(TaskError, match="line 1"):
        task_of(written(tmp_path, text))
    assert not mark.exists()


@REUSED
@given(
    text=st.text(st.sampled_from("task: mails\n[]{}-&*!|>'\"#%@`,?\t0\\é"), max_size=40), at=st.integers(0, len(GOOD))
)
def test_any_text_is_a_task_or_one_line(tmp_path, text, at):
    try:
        assert task_of(written(tmp_path, GOOD[:at] + text + GOOD[at:])).metrics
    except TaskError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lamp9", "unknown task 'lamp9'; the tasks are lamp1"),
        ("mail.json", "a .yaml or .py file"),
        ("", "unknown task ''"),
        ("nowhere.yaml", "nowhere.yaml: it cannot be read"),
        ("nowhere.py", "nowhere.py: it cannot be read"),
    ],
)
def test_unknown_names_and_missing_files(name, expected):
    with pytest.raises(TaskError) as caught:
        task_of(name)
    assert expected in str(caught.value)


def test_unreadable_files_and_reserved_names(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"task: \xff")
    taken = written(tmp_path, GOOD.replace("task: mails", "task: lamp2"))
    cases = [("folder.yaml", "cannot be read"), ("bytes.yaml", "UTF-8"), (taken, "'lamp2' is a built-in task")]
    for name, expected in cases:
        with pytest.raises(TaskError, match=expected):
            task_of(str(tmp_path / name))


# Python files

PYTHON = '''\
from __future__ import annotations
import dspy
from programs.tasks.task import Task
from r2p_dspy import Assert, Profile

class Subject(dspy.Signature):
    """Write the subject."""
    mail: str = dspy.InputField()
    profile: Profile = dspy.InputField()
    subject: str = dspy.OutputField()

def calm(inputs, outcome):
    return "!" not in outcome.subject, "Calm down."

TASK = Task(
    name="mails", signature=Subject, question="mail", answer="subject",
    fields=("subject", "text"), metrics=("rouge1",), checks=(Assert(calm),),
)
'''


def test_python_file_is_run(tmp_path):
    task = task_of(written(tmp_path, PYTHON, "task.py"))
    assert (task.name, task.inputs, task.checks[0].name) == ("mails", ("mail",), "calm")
    assert "calm" in [check.name for check in programs.load(str(tmp_path / "task.py")).checks]
    assert [path.name for path in tmp_path.iterdir()] == ["task.py"], "and leaves nothing beside it"


def test_python_file_is_run_once_per_content(tmp_path, capsys):
    for printed in ("one", "two"):
        path = written(tmp_path, f"{PYTHON}print({printed!r})\n", "task.py")
        assert task_of(path) is task_of(path)
        assert capsys.readouterr().out == f"{printed}\n"


PYTHON_FAULTS = [
    ("metrics=", "metric=", 17, "unknown argument of Task 'metric'; did you mean 'metrics'?"),
    ('"rouge1"', '"rouge-1"', 17, "unknown metric 'rouge-1'; did you mean 'rouge1'?"),
    ('question="mail"', 'question="mial"', 17, "unknown input 'mial'; did you mean 'mail'?"),
    ('answer="subject"', 'answer="subjet"', 17, "unknown output 'subjet'; did you mean 'subject'?"),
    ("profile: Profile", "profile: str", 17, "one input of type Profile, named 'profile'"),
    ("    mail: str", "    config: str", 17, "cannot be named 'config'"),
    ('fields=("subject", "text")', "fields=()", 17, "at least one field"),
    ("(Assert(calm),)", "(calm,)", 17, "wrap it in Assert(...)"),
    ("subject: str =", 'subject: __import__("typing").Literal["a"] =', 17, "one label leaves nothing to choose"),
    ("TASK = Task(", "TASK = Task((", 17, "SyntaxError"),
    ("def calm", "1 / 0\ndef calm", 12, "ZeroDivisionError"),
    ("def calm", "raise SystemExit(3)\ndef calm", 12, "SystemExit"),
    ("import dspy", "import nonesuch", 2, "No module named 'nonesuch'"),
    ("import dspy", "import dspy\0", 1, "null byte"),
    ('("rouge1",)', '("rouge1")', 17, "write a tuple of one, ('rouge1',)"),
]


@pytest.mark.parametrize(("before", "after", "line", "expected"), PYTHON_FAULTS, ids=[row[1] for row in PYTHON_FAULTS])
def test_python_fault_names_its_line(tmp_path, before, after, line, expected):
    path = written(tmp_path, PYTHON.replace(before, after), "task.py")
    with pytest.raises(TaskError) as caught:
        task_of(path)
    message = str(caught.value)
    assert expected in message and message.splitlines() == [message]
    assert message.startswith(f"{path}: line ") and abs(int(message.split()[2][:-1]) - line) <= 2


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("def calm", "1 / 0\ndef calm", ["Traceback", "line 12, in <module>\n    1 / 0\n", "ZeroDivisionError"]),
        ("def calm(", "def calm(:", ["line 12\n    def calm(:inputs, outcome):\n", "SyntaxError"]),
        ("import dspy", "import dspy, nonesuch", ["    import dspy, nonesuch\n", "ModuleNotFoundError"]),
    ],
)
def test_python_fault_keeps_the_users_traceback(tmp_path, before, after, shown):
    path = written(tmp_path, PYTHON.replace(before, after), "task.py")
    with pytest.raises(TaskError) as caught:
        task_of(path)
    error = pickle.loads(pickle.dumps(caught.value))
    assert all(text in error.traceback for text in [f'File "{path}"', *shown])
    assert "task_file.py" not in error.traceback, "the user's own frames only"


def test_wrong_arguments_of_task_have_no_traceback(tmp_path):
    for before, after in [("metrics=", "metric="), ("rouge1", "rouge-1")]:
        with pytest.raises(TaskError) as caught:
            task_of(written(tmp_path, PYTHON.replace(before, after), "task.py"))
        assert caught.value.traceback == "" and caught.value.__cause__ is None


def test_python_file_without_task(tmp_path):
    with pytest.raises(TaskError, match="does not bind TASK"):
        task_of(written(tmp_path, "TASK = 'mails'\n", "task.py"))


# Ready-made checks


@pytest.mark.parametrize(
    ("rule", "argument", "good", "bad", "expected"),
    [
        ("max_words", 3, "one two three", "one two three four", "at most 3 words; it has 4"),
        ("min_words", 2, "one two", "one", "at least 2 words; it has 1"),
        ("max_characters", 5, "12345", "123456", "at most 5 characters; it has 6"),
        ("one_line", True, "one line", "two\nlines", "on one line"),
        ("avoid", ["asap", "by the way"], "asapiens bytheway", "ASAP, By The Way", 'Leave "asap", "by the way" out'),
        ("avoid", ["C++"], "C", "in C++ now", '"C++"'),
    ],
)
def test_ready_made_checks(rule, argument, good, bad, expected):
    check = CheckArguments(**{rule: argument}).functions()[rule]

    def of(text):
        return check(Inputs(fields={}), Outcome(fields={"subject": text}, answers=("subject",)))

    assert of(good)[0] is True and of(f" {good}\n")[0] is True
    assert of(bad)[0] is False
    assert expected in of(bad)[1] and "subject" in of(bad)[1]
    assert not of(None)[0] if rule == "min_words" else of(None)[0]


def test_every_ready_made_check_has_arguments():
    assert list(READY_CHECKS) == list(CheckArguments.model_fields)


class TestLanguages:
    @pytest.mark.parametrize("language", ["", "language: ja\n", "language: zh-Hant\n", "language: any\n"])
    def test_any_script_is_read(self, tmp_path, language):
        task = task_of(written(tmp_path, GOOD + language))
        assert default_retriever(task).tokenize is words
        for title in ("雨の街", "비가 온다", "дождь", "बारिश"):
            assert [task.metric(name).example(title, title, ()) for name in task.metrics] == [1.0, 1.0]
        assert (
            task.metric("rouge1").example("雨の街で", "雨の街", ())
            > 0.5
            > task.metric("rouge1").example("夏", "雨", ())
        )

    def test_turkish_has_its_own_capital_i(self, tmp_path):
        task = task_of(written(tmp_path, GOOD + "language: tr\n"))
        assert task.metric("rouge1").example("ILIK İZMİR", "ılık izmir", ()) == 1
        assert default_retriever(task).tokenize is turkish_words

    def test_lamp_keeps_its_rules(self):
        task = programs.tasks.TASKS["lamp4"]
        assert default_retriever(task).tokenize("Rain, again") == ["Rain,", "again"]
        assert task.metric("rouge1") is METRICS["rouge1"] and task.metric("rouge1").example("雨", "雨", ()) == 0

    def test_what_is_no_language_is_refused(self, tmp_path):
        with pytest.raises(TaskError, match="line 7: a language is a code such as ja or pt-BR"):
            task_of(written(tmp_path, GOOD + "language: Japanese\n"))

    @pytest.mark.parametrize(("text", "words"), [("新しい傘を買いました", 10), ("비가 온다", 2), ("don't stop", 2)])
    def test_word_limits_bind_in_any_script(self, text, words):
        outcome = Outcome(fields={"subject": text}, answers=("subject",))
        for name, limit in (("max_words", words), ("min_words", words)):
            assert READY_CHECKS[name](limit)(Inputs(fields={}), outcome)[0]
        holds, message = READY_CHECKS["max_words"](words - 1)(Inputs(fields={}), outcome)
        assert not holds and f"it has {words}." in message
        assert not READY_CHECKS["min_words"](words + 1)(Inputs(fields={}), outcome)[0]
