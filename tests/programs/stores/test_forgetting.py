"""`data forget`: afterwards nothing of store, caches, runs, pages, traces and artifacts holds a text of the user."""

import html
import json
import shutil

import dspy
import pytest
from click.testing import CliRunner
from filelock import FileLock

import cli
from benchmarks.sentinels import packed_texts
from programs.data.personas import MAKERS
from programs.data.personas.world import draw
from programs.report_html.embedding import embedded
from programs.stores.texts import UserTexts
from programs.tasks.lamp2 import TASK
from r2p_dspy import R2P, Profile, load_program, save_program
from r2p_dspy.stores import open_store
from tests.film import fields
from tests.programs.report_html.hostile import hostile_run

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


def holders(place, secrets=SECRETS):
    """The files in which one of the texts stands: as it is, as JSON escapes it, or compressed."""
    forms = [form.encode() for secret in secrets for form in (secret, json.dumps(secret)[1:-1])]
    return sorted(
        str(path.relative_to(place))
        for path in place.rglob("*")
        if path.is_file() and any(form in path.read_bytes() + packed_texts(path) for form in forms)
    )


def page_users(run):
    """The users of a page, as its script reads them."""
    return {user for task in embedded((run / "report.html").read_text())["index"] for user in task["users"]}


def persona_rows():
    """A row of each of two personas, by their names."""
    cases = zip(("carol", "dan"), draw(MAKERS["lamp2"], "test", 2))
    return {
        name: {
            "id": f"{name}-q",
            "user": name,
            "description": case.question,
            "tag": case.answer,
            "profile": case.items[:4],
        }
        for name, case in cases
    }


def student(run, texts):
    """What `finetune` leaves: of an earlier version, whose rows name no users; and of this one, in later rounds."""
    (run / "sft-2/model").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "report.json").write_text("{}")
    traces = [{"id": str(n), "task": "lamp2", "prompt": f"… {text} …"} for n, text in enumerate(texts)]
    write(run / "traces/train.jsonl", traces)
    named = [{**row, "user": "ada" if n < len(FILMS) else "bob"} for n, row in enumerate(traces)]
    write(run / "traces-2/lamp2.jsonl", [{key: row[key] for key in ("id", "user")} for row in named])
    for name in ("traces-2/train.jsonl", "questions.jsonl", "samples.jsonl"):
        write(run / name, named)
    for folder in (run, run / "traces-2"):
        (folder / ".cache/json").mkdir(parents=True)
        (folder / ".cache/json/cache.arrow").write_bytes(FILMS[0][1].encode()[:30])
    (run / "sft-2/model/model.safetensors").write_bytes(b"weights")


def demo(films):
    shown = Profile.of([{"id": key, "text": text, "label": tag} for key, text, tag in films])
    return dspy.Example(description=films[0][1], profile=shown, augmented=True, **fields(tag=films[0][2]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What commands leave of ada, and of bob, beside the files that their owner keeps."""
    place, owners = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("given")
    url = f"sqlite:///{place / 'histories.sqlite'}"
    write(owners / "test.jsonl", [*rows(FILMS, "ada")[:2], *rows(OTHERS, "bob")[:1], *persona_rows().values()])
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
    student(tmp_path / "runs/student", [text for _, text, _ in (*FILMS, *OTHERS)])
    (tmp_path / "runs/eval/notes.html").write_text(f"<p>{html.escape(FILMS[1][1])}</p>")
    (tmp_path / "runs/eval/plot.png").write_bytes(b"\x89PNG")
    (tmp_path / "runs/eval/dump.arrow").write_bytes(FILMS[0][1].encode())
    return tmp_path


@pytest.fixture
def dspys_cache(world, monkeypatch):
    """DSPy's cache on disk, with answers for ada and for bob."""
    monkeypatch.setattr(dspy, "cache", dspy.cache)
    dspy.configure_cache(disk_cache_dir=str(world / "dspy"), disk_size_limit_bytes=10**8)
    for _, text, _ in (*FILMS, *OTHERS):
        dspy.cache.put({"model": "any", "prompt": text}, {"answer": f"She wrote: {text}"})
    yield
    dspy.cache.disk_cache.close()


def test_nothing_of_a_forgotten_user_is_left_in_any_file(world, dspys_cache):
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
        "runs/student/traces-2/train.jsonl: 4 rows",
        "runs/student/traces-2/lamp2.jsonl: 4 rows",
        "runs/student/samples.jsonl: 4 rows",
        "runs/student/questions.jsonl: 4 rows",
        "runs/student/traces-2/.cache/json: removed",
        "runs/student/.cache/json: removed",
        "runs/eval/transcripts/r2p.jsonl: 2 rows",
        "runs/eval/submissions/r2p.json: 2 answers",
        "runs/eval/report.html: made again, without the user",
        "runs/eval/notes.html: removed",
        "DSPy's cache was emptied, 6 answers of all users",
    ):
        assert line in result.output
    removed, left = result.output.split("cannot forget,")
    assert "runs/student/sft-2/model/model.safetensors: weights cannot forget" in left
    assert "runs/eval/dump.arrow holds texts of the user" in left
    assert "model.safetensors" not in removed and "plot.png" not in result.output
    assert page_users(world / "runs/eval") == {"bob", "carol", "dan"}
    assert (world / "runs/eval/report.html").stat().st_mode & 0o777 == 0o600
    for name in ("train.jsonl", "lamp2.jsonl"):
        assert [json.loads(line)["user"] for line in (world / "runs/student/traces-2" / name).open()] == ["bob"] * 2


@pytest.mark.parametrize("by_name", [True, False])
def test_every_text_of_a_persona_goes_and_every_other_stays(world, by_name):
    """Without a store, rows are found by the name that they have."""
    of = {
        name: [row["description"], *(item["description"] for item in row["profile"])]
        for name, row in persona_rows().items()
    }
    before = {text: holders(world, [text]) for text in of["dan"]}
    assert "runs/eval/report.html" in before[of["dan"][0]] and "runs/eval/transcripts/r2p.jsonl" in before[of["dan"][0]]
    assert "runs/eval/report.html" in holders(world, of["carol"])
    store = () if by_name else ("--store", "sqlite:///histories.sqlite")
    assert run("data", "forget", "carol", "--in", "runs", *store).exit_code == 0
    assert {*holders(world, of["carol"])} == ({"histories.sqlite"} if by_name else set())
    assert holders(world / "runs", ["carol"]) == []
    assert {text: holders(world, [text]) for text in of["dan"]} == before
    assert page_users(world / "runs/eval") == {"ada", "bob", "dan"}


def test_other_users_keep_everything(world):
    before = {
        name: [line for line in (world / name).read_text().splitlines() if '"user": "ada"' not in line]
        for name in (
            *("runs/answers.jsonl", "runs/answers.failed.jsonl"),
            *("runs/eval/results/r2p.jsonl", "runs/eval/transcripts/r2p.jsonl"),
        )
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


@pytest.mark.parametrize("place", ["runs", "runs/eval/results"])
def test_a_run_in_progress_is_not_touched(world, place):
    with FileLock(world / "runs/eval/.lock"):
        result = run("data", "forget", "ada", "--store", "sqlite:///histories.sqlite", "--in", place)
    assert result.exit_code == 2 and "another process works in runs/eval; wait until it ends" in result.output
    assert len(open_store("sqlite:///histories.sqlite").get("ada")) == 4, "the store is last, so it can be repeated"


class TestPages:
    def test_a_page_that_an_earlier_version_left_is_made_again(self, world):
        """Its run's rows were cleaned, and its packed texts were not seen."""
        page = world / "runs/eval/report.html"
        before = page.read_bytes()
        run("data", "forget", "ada", "--in", "runs/eval")
        clean = page.read_bytes()
        page.write_bytes(before)
        assert "report.html: made again" in run("data", "forget", "ada", "--in", "runs/eval").output
        assert page.read_bytes() == clean
        assert "report.html" not in run("data", "forget", "ada", "--in", "runs/eval").output

    def test_a_page_above_the_cleaned_files_is_made_again(self, world):
        places = ("runs/eval/transcripts/r2p.jsonl", "runs/eval/results")
        result = run("data", "forget", "ada", *(part for place in places for part in ("--in", place)))
        assert result.output.count("report.html: made again") == 1, "after all places"
        assert page_users(world / "runs/eval") == {"bob", "carol", "dan"}
        assert "runs/eval/report.html" not in holders(world)

    @pytest.mark.parametrize(
        "spoil, reason",
        [
            (lambda report: report.unlink(), "there is no report.json"),
            (lambda report: report.write_text("{"), "report.json cannot be read"),
            (lambda report: report.write_text('{"command": "evaluate", "programs": {"r2p": 7}}'), "KeyError: 'task'"),
        ],
    )
    def test_a_page_that_cannot_be_made_again_goes(self, world, spoil, reason):
        spoil(world / "runs/eval/report.json")
        result = run("data", "forget", "ada", "--in", "runs/eval")
        assert result.exit_code == 0 and "report.html: removed, since it cannot be made again" in result.output
        assert reason in result.output and not (world / "runs/eval/report.html").exists()

    @pytest.mark.parametrize("content", ['<script type="text/plain" id="block-0">%%%</script>', "<p>carol</p>", ""])
    def test_a_page_that_cannot_be_read_does_not_stop_the_cleaning(self, world, content):
        (world / "runs/eval/report.html").write_text(content)
        assert run("data", "forget", "carol", "--in", "runs/eval").exit_code == 0
        assert page_users(world / "runs/eval") == {"ada", "bob", "dan"}

    def test_the_last_user_of_a_run_leaves_an_empty_page(self, world):
        for user in ("ada", "bob", "carol", "dan"):
            run("data", "forget", user, "--in", "runs/eval")
        assert page_users(world / "runs/eval") == set()
        assert run("show", "runs/eval").exit_code == 0

    def test_cells_of_a_sweep_and_users_of_any_name(self, tmp_path):
        directory = hostile_run(tmp_path, "--k", "1", "--limit", "4", command="sweep")
        (cell,) = {path.parent for path in directory.rglob("report.html")} - {directory}
        gone, *others = sorted(page_users(cell))
        result = run("data", "forget", gone, "--in", directory)
        assert result.exit_code == 0
        assert result.output.count("made again, without the user") == 2, "the index too"
        assert page_users(cell) == {*others} and others
        texts = [[f"{kind} {user.split()[1]} " for kind in ("mail", "item", "gold")] for user in (gone, *others)]
        assert holders(directory, texts[0]) == []
        for kept in texts[1:]:
            assert str((cell / "report.html").relative_to(directory)) in holders(directory, kept)


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
