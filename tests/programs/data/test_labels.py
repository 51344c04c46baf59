"""Files of LaMP-2's shape with labels of their own: found in the data, or named in a task file."""

import json

import pytest
from click.testing import CliRunner

import cli
from programs.data.dataset import DataConfig
from programs.data.fitting import task_for, write_task_file
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, lamp_files
from programs.data.reading import read_examples
from programs.tasks import lamp2
from programs.tasks.task import TaskError
from programs.tasks.task_file import task_of
from r2p_dspy.errors import DataError
from tests.lamp import SAMPLES, write

TOPICS = ("design", "research", "social-media")
NEWS = ("politics", "sports", "travel")
SHAPES = {
    "an article": "Which topic? Just answer with the topic. topics: [design, research] article: Ask your users first.",
    "a film": lamp2.TASK.wording("Ask your users first."),
    "a colon alone": "Choose a topic: Ask your users first.",
}


def rows(labels, shape=SHAPES["an article"], first=0):
    """As many questions as labels; the history of each has all labels."""
    return [
        {
            "id": f"{first + number}",
            "input": f"{shape} {number}",
            "profile": [
                {"id": f"{number}-{place}", "description": f"On {label} {number}.", "tag": label}
                for place, label in enumerate(labels)
            ],
        }
        for number in range(len(labels))
    ]


def folder(path, train=TOPICS, dev=TOPICS, shape=SHAPES["an article"]):
    write(path, lamp2.TASK, rows(train, shape), {str(n): label for n, label in enumerate(train)}, "train")
    golds = {str(50 + n): label for n, label in enumerate(dev)}
    write(path, lamp2.TASK, rows(train[: len(dev)], shape, first=50), golds)
    return str(path)


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_are_found_in_the_data(tmp_path, shape):
    source, said = folder(tmp_path, shape=SHAPES[shape]), []
    task = task_for("lamp2", source, said.append)
    assert task.labels == TOPICS and task.name == "lamp2-own-labels" and len(said) == 1
    data = read_examples(task, DataConfig(source, trains=True))
    assert [example.tag for example in data.test] == [*TOPICS]
    assert data.test[1].description == "Ask your users first. 1"
    assert [item.label for item in data.test[0].profile] == [*TOPICS]
    assert "movie" not in str(task.signature), "its prompts are about any text"


def test_a_run_keeps_the_task_for_commands_without_its_data(tmp_path):
    labels = ("no", "café: 日本", "1", "a, b")  # which YAML could take for something else
    task = task_for("lamp2", folder(tmp_path, train=labels, dev=labels))
    write_task_file(task, tmp_path)
    again = task_of(str(tmp_path / "task.yaml"))
    assert (again.name, again.labels) == (task.name, task.labels)
    assert again.signature.equals(task.signature)
    write_task_file(lamp2.TASK, tmp_path / "none")
    assert not (tmp_path / "none").exists(), "a task whose labels are its own needs no file"


def test_labels_of_the_histories_count_where_train_has_no_files(tmp_path):
    source = folder(tmp_path)
    for kind in ("questions", "outputs"):
        (tmp_path / f"train_{kind}.json").unlink()
    assert task_for("lamp2", source).labels == TOPICS


def test_a_label_that_only_dev_has_is_one_clear_line(tmp_path):
    source = folder(tmp_path, dev=("design", "research", "beer"))
    with pytest.raises(DataError, match="labels that differ between splits: neither train nor a history has 'beer'"):
        task_for("lamp2", source)


def test_thousands_of_labels_are_texts(tmp_path):
    many = tuple(f"label {n}" for n in range(301))
    with pytest.raises(DataError, match="301 labels are more than a prompt can list"):
        task_for("lamp2", folder(tmp_path, train=many, dev=many[:2]))


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (lamp2.LABELS, "LaMP's own"),
        ((*lamp2.LABELS[:3], "beer", "wine"), "most are LaMP's: the others are flaws"),
        (NEWS, "the old LaMP_2, which is refused by its name"),
    ],
)
def test_other_data_keep_lamps_task(tmp_path, labels, why):
    assert task_for("lamp2", folder(tmp_path, train=labels, dev=labels)) is lamp2.TASK, why


def test_the_old_lamp_2_is_still_called_so(tmp_path):
    result = CliRunner().invoke(cli.cli, ["data", "check", folder(tmp_path, train=NEWS, dev=NEWS), "--task", "lamp2"])
    assert result.exit_code == 3 and "the old LaMP_2" in result.stdout


def test_lamps_own_files_and_other_tasks_are_left_alone(tmp_path):
    questions, golds = lamp_files(lamp2.TASK, draw(MAKERS["lamp2"], "test", 20))
    (tmp_path / "dev_questions.json").write_text(json.dumps(questions))
    (tmp_path / "dev_outputs.json").write_text(json.dumps(golds))
    assert task_for("lamp2", str(tmp_path)) is lamp2.TASK
    assert task_for("lamp4", str(tmp_path)).name == "lamp4"
    assert task_for("lamp2", None) is lamp2.TASK and task_for("lamp2", str(tmp_path / "nowhere")) is lamp2.TASK


def test_broken_files_are_left_to_the_reader(tmp_path):
    source = folder(tmp_path)
    (tmp_path / "train_outputs.json").write_text("[")
    assert task_for("lamp2", source) is lamp2.TASK


def test_a_task_file_of_three_lines(tmp_path):
    (tmp_path / "data").mkdir()
    source = folder(tmp_path / "data")
    file = tmp_path / "topics.yaml"
    file.write_text(f"task: topics\nbase: lamp2\nlabels: [{', '.join(TOPICS)}, unused]\n")
    task = task_for(str(file), source)
    assert task.name == "topics" and task.labels == (*TOPICS, "unused") and task.metrics == ("accuracy", "f1")
    assert [example.tag for example in read_examples(task, DataConfig(source)).test] == [*TOPICS]
    file.write_text(file.read_text() + "instructions: Choose this author's topic.\n")
    assert task_of(str(file)).signature.instructions == "Choose this author's topic."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task: t\nbase: lamp22\nlabels: [a, b]", "line 2: unknown base 'lamp22'; did you mean 'lamp2'?"),
        ("task: t\nbase: lamp4\nlabels: [a, b]", "line 2: the items of lamp4 have no labels"),
        ("task: t\nbase: lamp2", "line 1: labels is missing"),
        ("task: t\nbase: lamp2\nlabels: [a]", "line 3: one label leaves nothing to choose"),
        ("task: t\nbase: lamp2\nlabels: []", "labels"),
        ("task: t\nbase: lamp2\nlabels: [a, a]", "line 3: duplicate label 'a'"),
        ("task: t\nbase: lamp3\nlabels: [a, b]", "mae needs labels that are numbers"),
        ("task: t\nbase: lamp2\nlabels: [a, b]\nmetrics: [f1]", "line 4: unknown key 'metrics'"),
        ("task: lamp2\nbase: lamp2\nlabels: [a, b]", "'lamp2' is a built-in task"),
    ],
)
def test_faults_of_such_a_file(tmp_path, text, said):
    file = tmp_path / "topics.yaml"
    file.write_text(text)
    with pytest.raises(TaskError) as error:
        task_of(str(file))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_ratings_of_ones_own(tmp_path):
    file = tmp_path / "stars.yaml"
    file.write_text("task: stars\nbase: lamp3\nlabels: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n")
    assert task_of(str(file)).labels[-1] == "10"


@pytest.mark.skipif(not (SAMPLES / "digitalgov_LaMP2like").is_dir(), reason="the samples are not beside the checkout")
def test_real_topics():
    source = str(SAMPLES / "digitalgov_LaMP2like")
    task = task_for("lamp2", source)
    data = read_examples(task, DataConfig(source, trains=True))
    assert len(task.labels) == 14 and len(data.test) == 61
