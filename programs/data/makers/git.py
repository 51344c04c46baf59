"""Read the commits of a git repository, by git itself, one at a time.

The repository may be a stranger's: nothing in its settings may run a program, and nothing is fetched or written.
"""

import os
import subprocess  # nosec B404  # runs git
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from programs.data.makers.commit_text import clean, is_robot, kind_left_out
from programs.data.makers.message import Message, flaw
from programs.text import one_line, truncate
from r2p_dspy.errors import DataError

_FIELDS = ("%P", "%at", "%aN", "%aE", "%s", "%b")  # parents, time, name, address (by .mailmap), subject, body
_LONGEST = 1 << 16  # bytes of a field
_BLOCK = 1 << 16
# Settings of a repository that could run a program, ask a server, or change what is printed.
_SAFE = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.askPass=",
    "credential.helper=",
    "gpg.program=false",
    "log.showSignature=false",
    "log.follow=false",
    "log.diffMerges=off",
    "format.pretty=medium",  # one that is none stops git, although another is asked for
    "protocol.allow=never",
    "color.ui=false",
    "i18n.logOutputEncoding=UTF-8",
)
# Else git keeps the whole pack of a large repository mapped.
_SMALL = ("core.packedGitLimit=32m", "core.packedGitWindowSize=1m", "core.deltaBaseCacheLimit=16m")
_OPTIONS = ("--no-pager", "--no-replace-objects", "--no-optional-locks", "--literal-pathspecs")
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",  # of a partial clone, git would fetch what is missing
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",  # its messages are looked at
}


class Repository(NamedTuple):
    """A repository with commits that can be read.

    Args:
        path: of its folder, absolute.
        head: the id of the commit whose history is read.
    """

    path: Path
    head: str


def repository(path: str | Path) -> Repository:
    """Look at a repository before it is read.

    Raises:
        DataError: one line, for a folder that is no repository or another user's, a shallow or an empty repository,
            and where git is missing.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"{path}: no such folder; name one with a git repository")
    if _asked(folder, "rev-parse", "--is-shallow-repository") == "true":
        raise DataError(f"{path} is a shallow clone, without its history; get it: git -C {path} fetch --unshallow")
    try:
        head = _asked(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except DataError:
        raise DataError(f"{path} has no commits on its branch; commit something, or check out another branch") from None
    return Repository(folder, head)


def commits(source: Repository, left_out: Counter[str]) -> Iterator[Message]:
    """The commits that people worded, newest first; memory holds one at a time.

    Args:
        source: the repository; commits that HEAD does not reach are not read.
        left_out: counts what is left out, by its kind, and "commits", all that were read.

    Raises:
        DataError: git stopped before the end, with its last line.
    """
    for parents, time, name, address, subject, body in _log(source):
        left_out["commits"] += 1
        kind = "merges" if " " in parents else "bots" if is_robot(name, address) else kind_left_out(subject, body)
        message = clean(address.casefold() or name.casefold(), _seconds(time), subject, body)
        left_out["broken encodings"] += "\ufffd" in subject + body
        if reason := kind or flaw(message):
            left_out[reason] += 1
        else:
            yield message


def _log(source: Repository) -> Iterator[list[str]]:
    """The fields of every commit, as git prints them."""
    log = ["log", "--no-color", "--no-decorate", "--no-notes", "--no-show-signature", "--no-patch", "-z"]
    command = _command(source.path, *log, f"--format=tformat:{'%x00'.join(_FIELDS)}", source.head, "--")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=_environment())  # nosec B603
        assert process.stdout is not None
        try:
            fields: list[str] = []
            for field in _split(process.stdout):
                fields.append(field.decode("utf-8", "replace"))
                if len(fields) == len(_FIELDS):
                    yield fields
                    fields = []
            code = process.wait()
        finally:  # also when the reader stops early
            process.stdout.close()
            if process.poll() is None:
                process.kill()
                process.wait()
        if code:
            errors.seek(0)
            raise DataError(f"git stopped reading {source.path} ({_reason(errors.read())}); see `git fsck`")


def _split(stream: IO[bytes]) -> Iterator[bytes]:
    """The fields of a stream, each of which ends with NUL; of a very long one only the beginning."""
    begun = b""
    for block in iter(partial(stream.read, _BLOCK), b""):
        *whole, begun = (begun + block).split(b"\0")
        yield from (field[:_LONGEST] for field in whole)
        begun = begun[:_LONGEST]


def _asked(folder: Path, *arguments: str) -> str:
    """What git answers to a short question; a DataError with one line where it refuses."""
    command = _command(folder, *arguments)
    try:
        done = subprocess.run(command, capture_output=True, env=_environment(), check=False)  # nosec B603
    except FileNotFoundError:
        raise DataError("git is not installed, or not in PATH; install it") from None
    if not done.returncode:
        return done.stdout.decode("utf-8", "replace").strip()
    reason = _reason(done.stderr)
    if "dubious ownership" in reason or "safe.directory" in reason:
        advice = f"if you trust it: git config --global --add safe.directory {folder}"
        raise DataError(f"{folder} belongs to another user, so git does not read it; {advice}")
    if "not a git repository" in reason:
        raise DataError(f"{folder} is no git repository; name the folder of a clone")
    raise DataError(f"git cannot read {folder} ({reason or 'it says not why'}); see `git -C {folder} status`")


def _command(folder: Path, *arguments: str) -> list[str]:
    settings = [part for setting in (*_SAFE, *_SMALL) for part in ("-c", setting)]
    return ["git", *_OPTIONS, *settings, "-C", str(folder), *arguments]


def _environment() -> dict[str, str]:
    """The user's environment, without what points git to another repository or to programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _ENVIRONMENT


def _reason(errors: bytes) -> str:
    """The line of git's messages that tells most: the first that is fatal, else the last."""
    lines = [line for line in errors.decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
    return truncate(one_line((fatal or lines[-1:] or [""])[0]), 200)


def _seconds(text: str) -> int:
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 15 else -1
