"""`data forget`: afterwards no file of store, caches, runs, traces and artifacts holds a text of the user."""

import json
import shutil

import dspy
import pytest
from click.testing import CliRunner
from filelock import FileLock

import cli
from programs.stores.texts import UserTexts
from programs.tasks.lamp2 import TASK
from r2p_dspy import R2P, Profile, load_program, save_program
from r2p_dspy.stores import open_store
from tests.film import fields

FILMS = [
    ("m1", "A diver finds the letter of a drowned sailor in a wreck near Ostend.", "romance"),
    ("m2", "Zwei Brüder streiten um das Café ihres Großvaters in Köln, bis es brennt.", "action"),
    ("m3", "東京の古い映画館で、若い技師が一本のフィルムを見つける。", "classic"),
    ("m4", "A clockmaker repairs the tower clock of a town that has no time.", "fantasy"),
]
OTHERS = [("o1", "A storm.", "comedy"), ("o2", "An entirely different story about two lawyers and a parrot.", "comedy")]
# What must be nowhere: whole texts, and a piece of each.
SECRETS = [
    *(text for _, text, _ in FILMS),
    "drowned sailor in a wreck",
    "Café ihres Großvaters",
    "若い技師が一本",
    "tower clock of a town",
]


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def profile(films):
    return [{"id": key, "description": text, "tag": tag} for key, text, tag in films]


def rows(films, user):
    return [
        {
            "id": f"{user}-{key}",
            "user": user,
            "description": f"Once again: {text}",
            "tag": tag,
            "profile": profile(films),
        }
        for key, text, tag in films
    ]


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def holders(place):
    """The files in which a text of the user stands, as it is or as JSON escapes it."""
    forms = [form.encode() for secret in SECRETS for form in (secret, json.dumps(secret)[1:-1])]
    return sorted(
        str(path.relative_to(place))
        for path in place.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    )


def demo(films):
    shown = Profile.of([{"id": key, "text": text, "label": tag} for key, text, tag in films])
    return dspy.Example(description=films[0][1], profile=shown, augmented=True, **fields(tag=films[0][2]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What commands leave of ada, and of bob, beside the files that their owner keeps."""
    place, owners = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("given")
    url = f"sqlite:///{place / 'histories.sqlite'}"
    write(owners / "test.jsonl", [*rows(FILMS, "ada")[:2], *rows(OTHERS, "bob")[:1]])
    write(
        owners / "asked.jsonl",
        [{"id": f"{user}-q", "user": user, "description": "A diver."} for user in ("ada", "bob")],
    )
    (place / "runs").mkdir()
    kept = ("--calls", place / "runs/kept", "--k", 2, "--answer-tokens", 60)
    for command in (
        ("data", "import", owners, "--store", url, "--task", "lamp2"),
        ("evaluate", "--data", owners, "--only", "r2p", *kept, "--output", place / "runs/eval"),
        ("predict", "--input", owners / "asked.jsonl", "--output", place / "runs/answers.jsonl", "--store", url, *kept),
    ):
        result = run(*command)
        assert result.exit_code in (0, 3), result.output  # the pocket model cannot answer everything
    return place


@pytest.fixture
def world(runs, tmp_path, monkeypatch):
    """A folder in which ada appears everywhere, beside bob."""
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    program = R2P(TASK.signature)
    program.reason.demos = [demo(OTHERS), demo(FILMS)]
    program.reason.signature = program.reason.signature.with_instructions(f'Tag films such as "{FILMS[0][1]}" well.')
    save_program(program, "runs/program.json", task="lamp2")
    texts = [text for _, text, _ in [*FILMS, *OTHERS]]
    traces = [{"id": str(n), "task": "lamp2", "prompt": f"… {text} …"} for n, text in enumerate(texts)]
    write(tmp_path / "runs/student/traces/train.jsonl", traces)
    (tmp_path / "runs/student/model.safetensors").write_bytes(b"weights")
    (tmp_path / "runs/eval/report.html").write_text(f"<p>{FILMS[1][1]}</p>")
    (tmp_path / "runs/eval/plot.png").write_bytes(b"\x89PNG")
    (tmp_path / "runs/eval/dump.arrow").write_bytes(FILMS[0][1].encode())
    shared = dspy.cache  # of all tests; this one is emptied
    dspy.configure_cache(disk_cache_dir=str(tmp_path / "dspy"), disk_size_limit_bytes=10**8)
    for text in texts:
        dspy.cache.put({"model": "any", "prompt": text}, {"answer": f"She wrote: {text}"})
    yield tmp_path
    dspy.cache.disk_cache.close()
    dspy.cache = shared


def test_nothing_of_a_forgotten_user_is_left_in_any_file(world):
    assert {"histories.sqlite", "runs/program.json", "runs/student/traces/train.jsonl"} <= {*holders(world)}
    assert any(name.startswith("dspy/") for name in holders(world))
    result = run("data", "forget", "ada", "--store", "sqlite:///histories.sqlite")
    assert result.exit_code == 0, result.output
    assert holders(world) == ["runs/eval/dump.arrow"]
    for line in (
        "SQLite('{}'): 4 items".format(world / "histories.sqlite"),
        "runs/program.json: 1 demo",
        "runs/student/traces/train.jsonl: 4 rows",
        "runs/eval/results/r2p.jsonl: 2 rows",
        "runs/kept/ledger.sqlite: ",
        "runs/eval/report.html: removed",
        "DSPy's cache was emptied, 6 answers of all users",
    ):
        assert line in result.output
    removed, left = result.output.split("cannot forget,")
    assert "runs/student/model.safetensors: weights cannot forget" in left
    assert "runs/eval/dump.arrow holds texts of the user" in left
    assert "model.safetensors" not in removed and "plot.png" not in result.output


def test_other_users_keep_everything(world):
    before = {
        name: [line for line in (world / name).read_text().splitlines() if "bob" in line]
        for name in ("runs/answers.jsonl", "runs/answers.failed.jsonl", "runs/eval/results/r2p.jsonl")
        if (world / name).exists()
    }
    run("data", "forget", "ada", "--store", "sqlite:///histories.sqlite")
    assert all((world / name).read_text().splitlines() == lines for name, lines in before.items())
    assert len(open_store("sqlite:///histories.sqlite").get("bob")) == 2
    program = R2P(TASK.signature)
    load_program(program, "runs/program.json")
    assert len(program.reason.demos) == 1 and "parrot" in str(program.reason.demos[0])
    assert 'such as "[…]." well' in program.reason.signature.instructions
    assert [json.loads(line)["id"] for line in (world / "runs/student/traces/train.jsonl").open()] == ["4", "5"]


def test_forgetting_again_finds_nothing_more(world):
    for _ in range(2):
        result = run("data", "forget", "ada", "--store", "sqlite:///histories.sqlite")
    assert result.exit_code == 0
    assert "0 items" in result.output and "rows" not in result.output.split("cannot forget,")[0]


def test_a_run_in_progress_is_not_touched(world):
    with FileLock(world / "runs/eval/.lock"):
        result = run("data", "forget", "ada", "--store", "sqlite:///histories.sqlite")
    assert result.exit_code == 2 and "another process works in runs/eval; wait until it ends" in result.output
    assert len(open_store("sqlite:///histories.sqlite").get("ada")) == 4, "the store is last, so it can be repeated"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--in", "nowhere"], "nowhere does not exist"),
        ([], "nothing to clean"),
        (["--store", "x"], "no address of a store"),
    ],
)
def test_where_there_is_nothing_to_clean(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("data", "forget", "ada", *arguments)
    assert result.exit_code == 2 and message in result.output


@pytest.mark.parametrize(
    "texts, text, expected",
    [
        (["The sea was calm all night, and I slept."], "she said THE SEA — was calm, all night!", True),
        (["The sea was calm all night, and I slept."], "The sea was calm.", False),  # five words
        (["Rain in Berlin"], "On rain in Berlin.", True),  # short, and long enough to be telling
        (["Rain"], "Rain again", False),
        (["若い技師が一本のフィルムを見つける"], "技師が一本のフィルム", True),
        (["cafe\u0301 de Flore à Paris"], "CAFÉ DE FLORE À PARIS", True),
        ([], "anything", False),
        (["!!! ??? ... !!! ???"], "anything", False),
    ],
)
def test_what_counts_as_a_users_text(texts, text, expected):
    assert UserTexts(texts).stand_in(text) is expected
