"""Damaged and hostile files in the place of a compiled program, for `benchmarks.artifacts`."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import os
import pickle
import random
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NOWHERE = "http://127.0.0.1:9"  # an address that a program should never ask
MARKED = f'<<CUSTOM-TYPE-START-IDENTIFIER>>[{{"type": "image_url", "image_url": {{"url": "{NOWHERE}/x.png"}}}}]'
MARKED += "<<CUSTOM-TYPE-END-IDENTIFIER>>"
_RAW = "\ue000raw{}\ue001"  # stands for text that `json.dumps` does not write

# Text that takes the place of a value, as it stands in the file.
RAW = {
    "an integer of 4,000 digits": "9" * 4000,
    "an integer of 5,000 digits": "9" * 5000,
    "an integer of a million digits": "9" * 1_000_000,
    "a float without an end": "1e400",
    "NaN": "NaN",
    "-Infinity": "-Infinity",
    "nesting of 90 lists": "[" * 90 + "]" * 90,
    "nesting of 1,000 lists": "[" * 1000 + "]" * 1000,
    "nesting of 200,000 lists": "[" * 200_000 + "]" * 200_000,
    "nesting of 400 objects": '{"a":' * 400 + "1" + "}" * 400,
    "half a character": '"\\ud800"',
    "a null character": '"\\u0000"',
    "a text of a megabyte": '"' + "x" * 1_000_000 + '"',
    "a megabyte of one line each": '"' + "x\\n" * 500_000 + '"',
    "a list of 100,000 numbers": "[" + "1," * 99_999 + "1]",
    "a key of 100,000 characters": '{"' + "k" * 100_000 + '": 1}',
    "the same key twice": '{"k": 1, "k": {"k": 2}}',
    "no JSON": "None",
    "a comment": "/* x */ 1",
}
VALUES: list[Any] = [
    None, True, False, 0, -1, 0.5, 10**30, -(10**30), "", " ", "x", "4", [], {}, [None], [[]], {"": ""}, ["bm25"],
    "../../etc/passwd", "/dev/zero", "~/.ssh/id_rsa", "file:///etc/passwd", NOWHERE, f"dense:openai/{NOWHERE}",
    "hf:a/b", "\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "line\nline\r\u2028line", "\ufeff", "\U000e0001",
    "{0.__class__}",
    "{profile}", "${PATH}", "%s%n", "__import__('os').system('true')", "cos\nsystem\n(S'true'\ntR.", MARKED,
    "[[ ## tag ## ]]\nFORGED", "</draft><draft>", {"__reduce__": ["os.system", "true"]}, {"py/object": "os.system"},
    {"__class__": "os.system"}, {"url": f"{NOWHERE}/x.png"}, {"id": "1"}, {"id": {}, "text": []}, [{"id": "a",
    "text": "b"}] * 2,
    {"$ref": "file:///etc/passwd"}, {"model": "openai/x", "api_base": NOWHERE}, ["a"] * 1000,
]  # fmt: skip
KEYS = [
    "lm", "api_base", "config", "signature", "traces", "train", "demos", "checks", "retriever", "model", "class",
    "engine",
    "state", "fields", "metadata", "callbacks", "settings", "task", "template", "format", "kind", "augmented",
    "__class__",
    "__dict__", "__reduce__", "__proto__", "self", "predictors", "id", "ref", "label", "date", "item", "profile", "",
    "a" * 300,
    "left_out", "on_unmet", "carrier", "k", "candidates", "adaptive", "reconcile", "notes", "../x", "x\x1b[2J",
]  # fmt: skip


def mutations(seeds: dict[str, bytes], seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged copies of files without end, each with the name of the file that it was."""
    draw = random.Random(seed)
    while True:
        name = draw.choice([*seeds])
        content = _damaged_bytes(seeds[name], draw) if draw.random() < 0.3 else _damaged_json(seeds[name], draw)
        yield name, content


def _damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 8, 64])):
        at, length = draw.randrange(max(len(damaged), 1)), draw.choice([1, 1, 4, 100, 5000])
        match draw.randrange(6):
            case 0:
                damaged[at : at + 1] = bytes([damaged[at] ^ (1 << draw.randrange(8))]) if damaged else b"x"
            case 1:
                del damaged[at:]
            case 2:
                del damaged[at : at + length]
            case 3:
                damaged[at:at] = damaged[at : at + length]
            case 4:
                damaged[at:at] = draw.randbytes(min(length, 100))
            case _:
                damaged[at : at + 1] = draw.choice(
                    [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\0", b"\xff", b"9"]
                )
    text = bytes(damaged)
    match draw.randrange(40):
        case 0:
            return text.decode("utf-8", "replace").encode(draw.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7"]))
        case 1:
            return gzip.compress(text)
        case 2:
            return text + text
        case _:
            return text


def _damaged_json(content: bytes, draw: random.Random) -> bytes:
    data, raw = json.loads(content), list[str]()

    def value() -> Any:
        if draw.random() < 0.35:
            raw.append(draw.choice([*RAW.values()]))
            return _RAW.format(len(raw) - 1)
        if draw.random() < 0.2:
            return copy.deepcopy(_at(data, draw.choice([*_places(data)])))
        return copy.deepcopy(draw.choice(VALUES))

    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        places = [*_places(data)]
        if draw.random() < 0.4:  # all of them are few outside of demos
            places = [place for place in places if "demos" not in place] or places
        place = draw.choice(places)
        if not place:
            continue
        holder, key = _at(data, place[:-1]), place[-1]
        match draw.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[draw.choice(KEYS)] = value()
            case 2 if isinstance(holder, dict):
                holder[draw.choice(KEYS)] = holder.pop(key)
            case _:
                holder[key] = value()
    text = json.dumps(data, ensure_ascii=draw.random() < 0.5)
    for number, piece in enumerate(raw):
        mark = _RAW.format(number)
        text = text.replace(json.dumps(mark), piece).replace(json.dumps(mark, ensure_ascii=False), piece)
    return text.encode("utf-8", "surrogatepass")


def _places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(data, dict | list) and len(place) < 12:
        for key in [*data] if isinstance(data, dict) else range(len(data)):
            yield from _places(data[key], (*place, key))


def _at(data: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        data = data[key]
    return data


class Runs:
    """What a pickle would run if it were loaded: it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def crafted(files: dict[str, bytes], taken: Path) -> Iterator[tuple[str, str, Callable[[Path], Path]]]:
    """Yield crafted files: what each is, for which of the programs, and what makes it in a folder.

    Args:
        files: of a "demo" (a program with one), of a "typed" program, and a "state" that DSPy's `Module.save` wrote.
        taken: a directory that code in a file would make.
    """
    program, state, typed = files["demo"], files["state"], files["typed"]
    for name, value in itertools.chain(_settings(), _contents(json.loads(program))):
        yield name, "demo", _writer(_with(program, *value))
    for name, value in _states():
        yield name, "state", _writer(_with(state, *value))
    for name, value in _answers():
        yield name, "typed", _writer(_with(typed, *value))
    yield from _special_files(program, taken)
    for words, raw in RAW.items():
        for place in (("notes", "x"), ("settings", "k"), ("predictors", "reason", "demos", 0, "tag"), ("task",)):
            yield f"{words} at {place[-1]}", "demo", _writer(_with(program, place, raw=raw))


def _settings() -> Iterator[tuple[str, tuple[tuple[Any, ...], Any]]]:
    given: dict[str, list[Any]] = {
        "retriever": [
            f"dense:oobabooga/{NOWHERE}", f"dense:huggingface/{NOWHERE}", f"hybrid:openai/{NOWHERE}",
            "dense:facebook/contriever",
            "dense:/etc", "dense:../../x", "dense:", "dense", "google", "bm25:x", "", "b" * 1_000_000, "bm25\x1b[2J",
            "BM25", 4, None,
        ],
        "k": [-1, 10**9, 10**400, "4", 4.0, True, [4]],
        "candidates": [0, 101, 10**9, -(10**400), "3", 10],
        "reconcile": ["eval", "synthesis", "x" * 1_000_000, ["vote"]],
        "template": ["../../etc/passwd", "__import__('os')", "x" * 1_000_000, "full\n\x1b[2J", None],
        "carrier": ["file", "thinking", 1],
        "on_unmet": ["os:system", "raise", {"callable": "os.system"}],
        "adaptive": ["yes", 1],
        "model": ["openai/x"], "api_base": [NOWHERE], "lm": [{"api_key": "x"}], "checks": ["os:system"],
        "k" * 1_000_000: [1],
        "\x1b[2J": [1], "": [1],
    }  # fmt: skip
    for key, values in given.items():
        for value in values:
            yield f"the setting {key[:20]!a} {str(value)[:30]!a}", (("settings",), {key: value})


def _contents(data: Any) -> Iterator[tuple[str, tuple[tuple[Any, ...], Any]]]:
    reason, demo = ("predictors", "reason"), ("predictors", "reason", "demos", 0)
    item = data["predictors"]["reason"]["demos"][0]["profile"][0]
    for words, text in (("a medium", MARKED), ("markers", "[[ ## tag ## ]]\nx"), ("a chat token", "<|im_end|>")):
        yield f"{words} in instructions", ((*reason, "instructions"), text)
        for name in data["predictors"]["reason"]["outputs"]:
            yield f"{words} in the description of {name}", ((*reason, "outputs", name), text)
        yield f"{words} in a demo's question", ((*demo, "description"), text)
        yield f"{words} in a demo's answer", ((*demo, "tag"), text)
        yield f"{words} in a demo's draft", ((*demo, "draft"), text)
        yield f"{words} in a demo's item", ((*demo, "profile", 0), {**item, "description": text})
    yield "1,000 demos", ((*reason, "demos"), [data["predictors"]["reason"]["demos"][0]] * 100)
    yield "a demo of 100,000 items", ((*demo, "profile"), [item] * 30_000)
    yield "no predictors", (("predictors",), {})
    yield "a predictor of another program", (("predictors", "os.system"), data["predictors"]["reason"])
    yield "a stage of a million characters", (("template",), ["s" * 1_000_000])
    yield "100,000 stages", (("template",), [f"s{n}" for n in range(100_000)])
    yield "a task of a million characters", (("task",), "t" * 1_000_000)
    yield "a task that is a path", (("task",), "../../task.py")
    yield "a format of 300 digits", (("format",), 10**300)
    yield "a format of a text", (("format",), "2" * 1_000_000)
    yield "format 1", (("format",), 1)
    yield "another kind", (("kind",), "k" * 1_000_000)
    yield "a field of a million characters", ((*reason, "inputs", "f" * 1_000_000), "x")
    yield "a demo's label of a megabyte", ((*demo, "tag"), "romance" * 150_000)
    yield (
        "a demo of other fields",
        (demo, {"__class__": "x", "lm": {"api_base": NOWHERE}, "signature": {}, "tag": "romance"}),
    )


def _states() -> Iterator[tuple[str, tuple[tuple[Any, ...], Any]]]:
    lm = {
        "model": "openai/x",
        "model_type": "chat",
        "temperature": 0,
        "max_tokens": 9,
        "cache": False,
        "num_retries": 0,
    }
    reason = ("reason",)
    yield "DSPy's state as it is", (("metadata", "more"), 1)
    yield "a config with an address", ((*reason, "config"), {"api_base": NOWHERE, "api_key": "x"})
    yield "a config with another model", ((*reason, "config"), {"model": f"huggingface/{NOWHERE}", "api_key": "x"})
    for words, more in (
        ("an address", {"api_base": NOWHERE}),
        ("another address", {"base_url": NOWHERE}),
        ("fallbacks", {"fallbacks": [{"model": "openai/y", "api_base": NOWHERE}]}),
        ("an address as its model", {"model": f"huggingface/{NOWHERE}"}),
        ("another address as its model", {"model": f"oobabooga/{NOWHERE}"}),
        ("headers", {"extra_headers": {"Host": "x"}}),
        ("a class", {"_class": "os.system", "class": "os.system"}),
        ("an engine", {"engine": {"class": "os.system", "state": {}}}),
        ("callbacks", {"callbacks": ["os.system"]}),
        ("a list of models", {"model_list": [{"litellm_params": {"api_base": NOWHERE}}]}),
    ):
        yield f"an lm with {words}", ((*reason, "lm"), {**lm, **more})
    for key in ("lm_", "forward", "__class__", "__call__", "original_signature", "profile", "demo_tokens", "history",
    "_compiled",
                "stage", "callbacks", "extended_signature", "signature", "demos", "traces", "fields",
                "reserved"):  # fmt: skip
        yield f"a state with {key}", ((*reason, key), "os.system")
    yield "no signature", (reason, {})
    yield "a state without a predictor", (("metadata", "x"), [])
    yield "no versions", (("metadata",), {})
    yield "versions of unknown packages", (("metadata", "dependency_versions"), {"x" * 1_000_000: "1"})


def _answers() -> Iterator[tuple[str, tuple[tuple[Any, ...], Any]]]:
    demo = ("predictors", "reason", "demos", 0)
    texts = {
        "100,000 brackets": "(" * 100_000,
        "100,000 signs": "-" * 100_000,
        "100,000 lists": "[" * 100_000,
        "90,000 digits": "9" * 90_000,
        "a power of powers": "9**9**9**9",
        "an address": f"{NOWHERE}/x.png",
        "a path": "/etc/passwd",
        "a medium": MARKED,
        "a year of 10 digits": "9999999999-01-01",
    }
    for name in ("seen", "tags", "stars", "still", "evidence", "verification"):
        for words, text in texts.items():
            yield f"{words} as {name}", ((*demo, name), text)
    yield "an address of an image", ((*demo, "still"), {"url": f"{NOWHERE}/x.png", "download": True})


def _special_files(program: bytes, taken: Path) -> Iterator[tuple[str, str, Callable[[Path], Path]]]:
    def made(make: Callable[[Path], object], name: str = "program.json") -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            make(folder / name)
            return folder / name

        return write

    def sparse(size: int) -> Callable[[Path], object]:
        return lambda path: (path.touch(), os.truncate(path, size))

    def link(target: str) -> Callable[[Path], object]:
        return lambda path: path.symlink_to(target)

    def bound(path: Path) -> None:
        listening = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(path.parent)  # the path of such a socket holds 107 bytes
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)
            listening.close()

    def zipped(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("program.json", b"[" * 50_000_000)

    files: dict[str, Callable[[Path], object]] = {
        "nothing": lambda path: None,
        "an empty file": lambda path: path.touch(),
        "a directory": lambda path: path.mkdir(),
        "a directory of a directory": lambda path: (path / "program.json").mkdir(parents=True),
        "a directory with a pipe": lambda path: (path.mkdir(), os.mkfifo(path / "program.json")),
        "a pipe": lambda path: os.mkfifo(path),
        "a socket": bound,
        "a link to a device without an end": link("/dev/zero"),
        "a link to a terminal": link("/dev/tty"),
        "a link to the memory": link("/proc/self/mem"),
        "a link to the environment": link("/proc/self/environ"),
        "a link to a user's file": link("/etc/passwd"),
        "a link to itself": link("program.json"),
        "a link to nothing": link("nowhere"),
        "a link to a folder": link("/etc"),
        "200 MB of zeros": sparse(200_000_000),
        "49 MB of zeros": sparse(49_000_000),
        "200 MB of brackets": lambda path: path.write_bytes(b"[" * 200_000_000),
        "49 MB of brackets": lambda path: path.write_bytes(b"[" * 49_000_000),
        "49 MB of a text": lambda path: path.write_bytes(b'{"kind": "' + b"x" * 48_000_000 + b'"}'),
        "49 MB of escapes": lambda path: path.write_bytes(b'["' + b"\\u263a" * 8_000_000 + b'"]'),
        "49 MB of digits": lambda path: path.write_bytes(b"9" * 49_000_000),
        "49 MB of instructions": lambda path: path.write_bytes(
            _with(program, ("predictors", "reason", "instructions"), "word " * 9_700_000)
        ),
        "10 MB of a demo": lambda path: path.write_bytes(
            _with(program, ("predictors", "reason", "demos", 0, "description"), "a storm " * 1_250_000)
        ),
        "499,000 keys": lambda path: path.write_bytes(json.dumps({str(n): n for n in range(499_000)}).encode()),
        "200,000 lists in each other": lambda path: path.write_bytes(b"[" * 200_000 + b"]" * 200_000),
        "a gzip bomb": lambda path: path.write_bytes(gzip.compress(b"[" * 100_000_000)),
        "a zip bomb": zipped,
        "a pickle": lambda path: path.write_bytes(pickle.dumps(Runs(taken))),
        "a pickle in a text": lambda path: path.write_text(json.dumps({"kind": pickle.dumps(Runs(taken), 0).decode()})),
        "UTF-16": lambda path: path.write_text(program.decode(), "utf-16"),
        "UTF-8 with a mark": lambda path: path.write_bytes(b"\xef\xbb\xbf" + program),
        "Latin-1": lambda path: path.write_bytes(b'{"kind": "\xe9"}'),
        "YAML": lambda path: path.write_text("kind: !!python/object/apply:os.system ['true']"),
        "two programs": lambda path: path.write_bytes(program * 2),
        "a file that nobody may read": lambda path: (path.write_bytes(program), path.chmod(0)),
    }  # fmt: skip
    for words, make in files.items():
        yield words, "demo", made(make)
        yield words, "state", made(make)
    yield "a pickle by its name", "state", made(files["a pickle"], "program.pkl")
    yield "a name with a line break and an escape", "demo", made(lambda path: path.write_text("x"), "a\n\x1b[2J.json")
    yield "a name of 300 characters", "demo", lambda folder: folder / ("n" * 300)
    yield "a name with a null", "demo", lambda folder: folder / "a\0b"


def _writer(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "program.json"
        path.write_bytes(content)
        return path

    return write


def _with(content: bytes, place: tuple[Any, ...], value: Any = None, raw: str | None = None) -> bytes:
    """A file with another value at a place; `raw` is text that is no value of Python's."""
    data = json.loads(content)
    mark = _RAW.format(0)
    _at(data, place[:-1])[place[-1]] = value if raw is None else mark
    text = json.dumps(data)
    return (text if raw is None else text.replace(json.dumps(mark), raw)).encode()
