"""Load damaged and hostile files in the place of a compiled program: `python -m benchmarks.artifacts`.

Each file is loaded in every public way, shown as `show` shows it, and, if it loads, used for one answer of a scripted
model. An audit hook watches meanwhile: nothing in the file may run, import, connect, write, or open another path. Each
file either loads or is refused with one short line, within bounded time and memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import mimetypes
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dspy
from dspy.utils.exceptions import LMUnsupportedFeatureError

import programs
from benchmarks.memory import peak_bytes
from benchmarks.mutations import NOWHERE, crafted, mutations
from programs.data.dataset import personas
from programs.tasks import TASKS
from programs.tasks.program import R2PConfig, build
from programs.ui.show import compare, describe
from r2p_dspy import (
    R2P,
    All,
    ArtifactError,
    AssertionFailed,
    ConfigError,
    Profile,
    load_program,
    read_artifact,
    redacted,
)
from r2p_dspy import save_program as save
from tests.scripted import STAGES, ScriptedEngine, written

SECONDS, SECONDS_PER_MB = 2.0, 0.1  # of computing, to load a file and to answer with it
HANGING = 60  # seconds of any kind
MEMORY = 600 << 20  # bytes that the process may grow by meanwhile; a file has at most 50 MB
_ADDRESS_SPACE = 8 << 30
_SHOWN = 500_000  # bytes of a file that is shown and redacted too, which takes time in proportion
_JOINERS = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060"))  # scripts need them
_LONGEST = 1200  # characters of a message
_ROOT = Path(__file__).parents[1]
_ZIP = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"  # which Python looks for, and is not there
_STDLIB = Path(sysconfig.get_path("stdlib"))
_READABLE = tuple(
    map(str, (_ROOT, _STDLIB, _STDLIB.with_name(_ZIP), sysconfig.get_path("purelib"), "/usr/share/zoneinfo"))
)
_NEVER = (
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system",
    "os.exec",
    "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link",
    "os.chmod", "os.chdir",
    "os.putenv", "pickle.find_class", "exec", "compile", "import", "ctypes.dlopen", "code.__new__", "builtins.input",
    "webbrowser.open",
    "urllib.Request", "sqlite3.connect", "marshal.loads", "shutil.rmtree", "os.kill", "signal.pthread_kill",
    "tempfile.mkstemp",
)  # fmt: skip


class TypedFilm(dspy.Signature):
    """Say when this user saw the film, and what they would call it."""

    film: str = dspy.InputField()
    still: dspy.Image | None = dspy.InputField()
    profile: Profile = dspy.InputField(desc="films that the user tagged")
    seen: date = dspy.OutputField()
    tags: list[Literal["sad", "glad"]] = dspy.OutputField()
    stars: int | None = dspy.OutputField()


@dataclass
class Seed:
    """A program whose files are damaged: how it is built, asked, and answered."""

    load: Callable[[Path], R2P]
    inputs: dict[str, Any]
    outputs: dict[str, str]
    content: bytes


@dataclass
class Results:
    """What became of files; a finding is anything else than an answer or a refusal in one line."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0  # the longest
    memory: int = 0  # the most

    def __iadd__(self, other: Results) -> Results:
        self.outcomes += other.outcomes
        self.findings += other.findings
        self.seconds, self.memory = max(self.seconds, other.seconds), max(self.memory, other.memory)
        return self


class Watch:
    """Lists what a block does that no file may make it do. There is one for the process: an audit hook stays."""

    def __init__(self) -> None:
        self.active, self.path, self.events = False, "", list[str]()
        sys.addaudithook(self._hear)

    @contextmanager
    def over(self, path: Path) -> Iterator[list[str]]:
        """Watch a block that may read one file."""
        self.path, self.events, self.active = str(path), [], True
        try:
            yield self.events
        finally:
            self.active = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC))
            opened = os.fsdecode(path) if isinstance(path, str | bytes) else str(path)
            if writes or not (opened in (self.path, f"{self.path}/program.json") or opened.startswith(_READABLE)):
                self.events.append(f"opens {opened[:200]!a} ({mode})")
        elif event in _NEVER and not (event == "compile" and arguments[1] == "<unknown>"):  # `ast.literal_eval`
            self.events.append(f"{event} {str(arguments)[:200]}")


_WATCH = Watch()


def seeds() -> dict[str, Seed]:
    """The programs that ship, and small ones of other shapes."""
    made: dict[str, Seed] = {}
    for path in sorted(programs.COMPILED.glob("*.json")):
        task = TASKS[path.stem]
        example = personas(task, seed=0, limit=1).test[0]
        outputs = {name: str(example[name]) for name in example.labels().keys()}  # noqa: SIM118
        made[task.name] = Seed(partial(programs.load, task.name), dict(example.inputs()), outputs, path.read_bytes())
    film = made["lamp2"]
    stages = {**STAGES, **{name: json.loads(STAGES[name]) for name in ("evidence", "preferences", "verification")}}
    demo = {**stages, **film.inputs, **film.outputs}
    for name, settings in {
        "demo": {},
        "synthesis": {"candidates": 3, "reconcile": "synthesis"},
        "thinking": {"carrier": "thinking"},
        "brief": {"template": "brief"},
    }.items():
        program = build(TASKS["lamp2"], R2PConfig.model_validate(settings))
        program.reason.demos = [
            dspy.Example(**{key: demo[key] for key in program.reason.signature.fields if key in demo})
        ]
        made[name] = replace(film, content=_saved(program, task="lamp2", settings=settings))
    program = programs.load("lamp2")
    program.reason.demos = [dspy.Example(**demo)]
    made["state"] = replace(film, load=_load_state, content=_state(program))
    inputs = {"film": "a storm", "still": None, "profile": [{"id": "a", "text": "a lighthouse", "label": "sad"}]}
    outputs = {"seen": "2024-05-06", "tags": '["sad"]', "stars": "4"}
    typed = R2P(TypedFilm, retriever=All(), on_unmet="return")
    still = dspy.Image("data:image/png;base64,AAAA")
    answers = {"seen": date(2024, 5, 6), "tags": ["sad"], "stars": 4}
    typed.reason.demos = [dspy.Example(**{**inputs, **stages, **answers, "still": still})]
    made["typed"] = Seed(_load_typed, inputs, outputs, _saved(typed, task="typed"))
    return made


def _saved(program: R2P, **options: Any) -> bytes:
    return save(program, Path(tempfile.mkdtemp()) / "program.json", **options).read_bytes()


def _state(program: R2P) -> bytes:
    path = Path(tempfile.mkdtemp()) / "state.json"
    program.save(path)
    return path.read_bytes()


def _load_typed(path: Path) -> R2P:
    program = R2P(TypedFilm, retriever=All(), on_unmet="return")
    load_program(program, path)
    return program


def _load_state(path: Path) -> R2P:
    program = programs.load("lamp2", compiled=False)
    program.load(path)
    return program


ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}


def use(seed: Seed, path: Path, adapter: str = "chat") -> str:
    """Load a file, answer with it, and show it; the outcome in a word, or a finding.

    Raises what the file makes it raise beyond what is refused in one line.
    """
    try:
        program = seed.load(path)
    except (ArtifactError, ConfigError) as error:
        return _refusal(error)
    except ValueError as error:
        if path.suffix == ".pkl" and "allow_pickle" in str(error):
            return "refused: a pickle, as DSPy refuses it"
        raise
    engine = ScriptedEngine(lambda request: written(**{**STAGES, **seed.outputs, "comparison": "x"}))
    lm = dspy.LM("scripted/artifacts", engine=engine, cache=False, num_retries=0, model_type="chat")
    with (
        dspy.context(lm=lm, adapter=ADAPTERS[adapter](), trace=[]),
        suppress(AssertionFailed, LMUnsupportedFeatureError),
    ):
        program(**seed.inputs)
    parts = [part for request in engine.requests for message in request.messages for part in message.parts]
    media = [part for part in parts if part.type not in ("text", "thinking")]
    if media and (NOWHERE in repr(media) or b"data:image" not in seed.content):
        return f"FINDING sends {media[0].type}"
    if seed.load is _load_state or path.stat().st_size > _SHOWN:
        return "loads and answers"
    artifact = read_artifact(path)
    for line in itertools.chain(describe(artifact), compare(read_artifact(programs.COMPILED / "lamp2.json"), artifact)):
        if not line.text.translate(_JOINERS).isprintable():
            return f"FINDING shows {line.text[:100]!a}"
    redacted(artifact)
    return "loads and answers"


def _refusal(error: Exception) -> str:
    text = str(error)
    if not text.isprintable() or len(text) > _LONGEST:
        return f"FINDING is refused with {len(text)} characters: {text[:200]!a}"
    return f"refused: {type(error).__name__}"


def observed(seed: Seed, path: Path, adapter: str, alarm: bool) -> tuple[str, float, int]:
    """Use a file under watch: the outcome, the seconds that it took, and the bytes that the process grew by."""
    size = path.stat().st_size if os.path.isfile(path) else 0  # noqa: PTH113  # no error for names that cannot be
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # what it has held until now no longer counts
    before = peak_bytes()
    began = time.process_time()
    if alarm:
        signal.setitimer(signal.ITIMER_REAL, HANGING)
    with _WATCH.over(path) as events:
        try:
            outcome = use(seed, path, adapter)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            place = "" if where is None else f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}"
            outcome = f"FINDING {type(error).__name__} at {place}: {str(error)[:200]!a}"
    if alarm:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds, memory = time.process_time() - began, peak_bytes() - before
    if events:
        outcome = f"FINDING {'; '.join(dict.fromkeys(events))[:500]}"
    elif seconds > SECONDS + SECONDS_PER_MB * size / 1e6:
        outcome = f"FINDING takes {seconds:.1f} s ({outcome})"
    elif memory > MEMORY:
        outcome = f"FINDING takes {memory >> 20} MB ({outcome})"
    return outcome, seconds, memory


def campaign(
    mutated: int, hand_made: int | None, seed: int, part: tuple[int, int] = (0, 1), alarm: bool = False
) -> Results:
    """Use so many damaged files, and crafted ones (None: all); `part` is which of how many parts of them."""
    mimetypes.init()
    results, known, root = Results(), seeds(), Path(tempfile.mkdtemp())
    content = {name: each.content for name, each in known.items()}
    for number, (name, each) in enumerate(known.items()):  # what is imported at first use is imported now
        for text in (content[name], b"{", content[name].replace(b'"2', b'"3')):
            path = _write(text, root)
            with suppress(ValueError, ArtifactError):
                use(each, path, [*ADAPTERS][number % len(ADAPTERS)])
    tasks = itertools.chain(_mutated(mutated, seed, content), _crafted(hand_made, content, root / "taken"))
    for number, (words, name, make) in enumerate(tasks):
        if number % part[1] != part[0]:
            continue
        folder = root / str(number)
        folder.mkdir()
        path = make(folder)
        adapter = [*ADAPTERS][number % len(ADAPTERS)]
        outcome, seconds, memory = observed(known[name], path, adapter, alarm)
        if (root / "taken").exists():
            outcome = "FINDING runs a pickle"
            (root / "taken").rmdir()
        kind = outcome.partition(" ")[0] if outcome.startswith("FINDING") else outcome
        results += Results(Counter([f"{words.partition(':')[0]}: {kind}"]), [], seconds, memory)
        if kind == "FINDING":
            results.findings.append(f"{words} ({name}, {adapter}): {outcome}")
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    return results


def _mutated(number: int, seed: int, content: dict[str, bytes]) -> Iterator[tuple[str, str, Callable[[Path], Path]]]:
    for count, (name, text) in enumerate(itertools.islice(mutations(content, seed), number)):
        yield f"mutated: {count} of seed {seed}", name, partial(_write, text)


def _crafted(
    number: int | None, content: dict[str, bytes], taken: Path
) -> Iterator[tuple[str, str, Callable[[Path], Path]]]:
    for words, name, make in itertools.islice(crafted(content, taken), number):
        yield f"crafted: {words}", name, make


def _write(content: bytes, folder: Path) -> Path:
    path = folder / "program.json"
    path.write_bytes(content)
    return path


def _work(arguments: tuple[int, int | None, int, tuple[int, int]]) -> Results:
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    signal.signal(signal.SIGALRM, _ring)
    return campaign(*arguments, alarm=True)


def _ring(*_: Any) -> None:
    raise TimeoutError(f"after {HANGING} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutated", type=int, default=10_000, help="damaged files (default: %(default)s)")
    parser.add_argument("--crafted", type=int, default=None, help="crafted files (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    began, results = time.monotonic(), Results()
    parts = [
        (options.mutated, options.crafted, options.seed, (part, options.processes)) for part in range(options.processes)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for result in pool.imap_unordered(_work, parts):
            results += result
    for finding in results.findings:
        print(finding)
    for outcome, count in sorted(results.outcomes.items()):
        print(f"{count:6,}  {outcome}")
    print(
        f"{results.outcomes.total():,} files, {len(results.findings)} findings; "
        f"the slowest took {results.seconds:.2f} s, the largest {results.memory >> 20} MB; "
        f"{time.monotonic() - began:.0f} s in all"
    )
    sys.exit(bool(results.findings))


if __name__ == "__main__":
    main()
