"""A file from the web, whole or not at all; what was begun goes on where it stopped."""

import re
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from r2p_dspy.errors import DataError

_TIMEOUT = 20.0  # seconds without a connection, or without a byte
_WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each new try after a drop; progress starts them again
_HEADERS = {"User-Agent": "r2p-dspy", "Accept-Encoding": "identity"}


class DownloadError(DataError):
    """A download that came to nothing; one line says why."""


class Unreachable(DownloadError):
    """No server, or none that answers."""


class _Dropped(Exception):
    """A connection that failed; the next may do."""


def download(
    url: str,
    target: Path,
    check: Callable[[Path], None] = lambda path: None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Download a file.

    Beside the target, `NAME.part` holds what is there so far, and `NAME.tag` what the server calls this version of the
    file (its `ETag`, or when it was last modified). By them a dropped connection, or a later call, goes on where it
    stopped, unless the file has changed meanwhile.

    Args:
        url: what to get.
        target: where to put it, in a directory that exists; only what is whole and passes the check gets that name.
        check: is given the whole file and raises a ValueError where it is not what it should be; it is removed then.
        progress: is told how many bytes are there, and how many there are to be, where the server says so.

    Raises:
        Unreachable: at once, when nothing answers.
        DownloadError: when the server refuses, or gives a web page in the file's place; when the connection fails again
            and again; when the disk does not take the file.
        ValueError: from the check.
    """
    part, tag = (target.with_name(f"{target.name}.{kind}") for kind in ("part", "tag"))
    first = most = _size(part)
    waits, begun = list(_WAITS), False
    while True:
        try:
            _fetch(url, part, tag, progress)
            break
        except _Dropped as error:
            size = _size(part)
            begun = begun or size != first
            if not begun:
                raise Unreachable(f"{url} cannot be reached ({error})") from None
            if size > most and _size(tag):
                most, waits = size, list(_WAITS)
            if not waits:
                lost = f"{url} broke off after {size:,} bytes ({error})"
                raise DownloadError(f"{lost}; give the same command again to go on from there") from None
            time.sleep(waits.pop(0))
        except OSError as error:
            raise DownloadError(f"{part} cannot be written ({error.strerror}); name another directory") from None
    try:
        check(part)
    except ValueError:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise
    part.replace(target)
    tag.unlink(missing_ok=True)


def _fetch(url: str, part: Path, tag: Path, progress: Callable[[int, int | None], None]) -> None:
    """One request; what it gives goes behind what is there."""
    version = tag.read_text("latin-1") if tag.exists() else ""  # as headers are
    done = _size(part) if version else 0
    with _open(url, {"Range": f"bytes={done}-", "If-Range": version} if done else {}) as answer:
        place = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        same = done > 0 and place is not None and _version(answer) in ("", version)  # some never look at If-Range
        if same and place and answer.status == 416 and place[2] == str(done):
            return  # it is all there
        resumed = same and place is not None and answer.status == 206 and place[1] == str(done)
        if answer.status in (206, 416) and done and not resumed:
            part.unlink()  # the server does not go on from there; from the start it may
            _fetch(url, part, tag, progress)
            return
        if answer.status != 200 and not resumed:
            raise DownloadError(f"{url} is refused (HTTP {answer.status} {answer.reason})")
        total = int(place[2]) if resumed and place and place[2] != "*" else answer.length
        chunk = _read(answer)
        if not resumed:
            if answer.headers.get_content_type() == "text/html" or chunk.lstrip().startswith(b"<"):
                raise DownloadError(f"{url} gives a web page in the file's place")
            done = 0
            part.unlink(missing_ok=True)  # before its tag becomes another
            tag.write_text(_version(answer), "latin-1")
        with part.open("ab") as file:
            while chunk:
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
                chunk = _read(answer)
    if total is not None and done < total:
        raise _Dropped("the connection was closed")


def _version(answer: HTTPResponse) -> str:
    """What the server calls this version of the file; a weak ETag does not promise the same bytes."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    try:
        return urlopen(Request(url, headers=_HEADERS | headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code < 500 and error.code not in (408, 429):  # too slow, too often: later it may do
            return error  # type: ignore[return-value]  # it is the response as well
        raise _Dropped(f"HTTP {error.code} {error.reason}") from None
    except URLError as error:
        raise _Dropped(getattr(error.reason, "strerror", None) or error.reason) from None
    except (OSError, HTTPException) as error:
        raise _Dropped(str(error) or type(error).__name__) from None


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read1(1 << 16)
    except (OSError, HTTPException) as error:
        raise _Dropped(str(error) or type(error).__name__) from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
