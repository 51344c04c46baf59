"""Download a file, complete or not at all; a download that stopped continues where it was."""

import re
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from r2p_dspy.errors import DataError

_TIMEOUT = 20.0  # seconds without a connection, or without a byte
_WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each retry; progress starts the list again
_HEADERS = {"User-Agent": "r2p-dspy", "Accept-Encoding": "identity"}


class DownloadError(DataError):
    """A download that failed; the message is one line that says why."""


class Unreachable(DownloadError):
    """There is no server at the address, or it does not answer."""


class _Dropped(Exception):
    """A connection that failed; a retry may succeed."""


def download(
    url: str,
    target: Path,
    check: Callable[[Path], None] = lambda path: None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Download a file. Only a complete file that passes the check gets its name.

    Beside the target, `NAME.part` holds the bytes so far, and `NAME.tag` the server's name for this version of the file
    (its `ETag`, or the time of its last change). After a dropped connection, or in a later call, the download continues
    from there, unless the file has changed meanwhile.

    Args:
        url, target: the address of the file, and where to put it, in a directory that exists.
        check: is called with the complete file, and raises a ValueError if the file is wrong; the file is removed then.
        progress: is called with the number of bytes so far, and with their total if the server gives it.

    Raises:
        Unreachable: at once, if nothing answers.
        DownloadError: if the server refuses or sends a web page instead of the file; if the connection keeps failing;
            if the file cannot be written.
    """
    part, tag = (target.with_name(f"{target.name}.{kind}") for kind in ("part", "tag"))
    first = most = _size(part)
    waits, started = list(_WAITS), False
    while True:
        try:
            _fetch(url, part, tag, progress)
            break
        except _Dropped as error:
            size = _size(part)
            started = started or size != first
            if not started:
                raise Unreachable(f"{url} cannot be reached ({error})") from None
            if size > most and _size(tag):
                most, waits = size, list(_WAITS)
            if not waits:
                what = f"{url} broke off after {size:,} bytes ({error})"
                raise DownloadError(f"{what}; give the same command again to continue from there") from None
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
    """Send one request, and append its bytes to the part."""
    version = tag.read_text("latin-1") if tag.exists() else ""  # as headers are
    done = _size(part) if version else 0
    with _open(url, {"Range": f"bytes={done}-", "If-Range": version} if done else {}) as response:
        place = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
        same = done > 0 and place is not None and _version(response) in ("", version)  # some servers ignore If-Range
        if same and place and response.status == 416 and place[2] == str(done):
            return  # the part is complete
        resumed = same and place is not None and response.status == 206 and place[1] == str(done)
        if response.status in (206, 416) and done and not resumed:
            part.unlink()  # the server does not continue the part; it may send the file from the start
            _fetch(url, part, tag, progress)
            return
        if response.status != 200 and not resumed:
            raise DownloadError(f"{url} is refused (HTTP {response.status} {response.reason})")
        total = int(place[2]) if resumed and place and place[2] != "*" else response.length
        chunk = _read(response)
        if not resumed:
            if response.headers.get_content_type() == "text/html" or chunk.lstrip().startswith(b"<"):
                raise DownloadError(f"{url} gives a web page instead of the file")
            done = 0
            part.unlink(missing_ok=True)  # before its tag changes
            tag.write_text(_version(response), "latin-1")
        with part.open("ab") as file:
            while chunk:
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
                chunk = _read(response)
    if total is not None and done < total:
        raise _Dropped("the connection was closed")


def _version(response: HTTPResponse) -> str:
    """The server's name for this version of the file; a weak ETag does not promise the same bytes."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    try:
        return urlopen(Request(url, headers=_HEADERS | headers), timeout=_TIMEOUT)  # nosec B310  # LaMP's own https
    except HTTPError as error:
        if error.code < 500 and error.code not in (408, 429):  # too slow or too many requests: a retry may succeed
            return error  # type: ignore[return-value]  # the error is the response too
        raise _Dropped(f"HTTP {error.code} {error.reason}") from None
    except URLError as error:
        raise _Dropped(getattr(error.reason, "strerror", None) or error.reason) from None
    except (OSError, HTTPException) as error:
        raise _Dropped(str(error) or type(error).__name__) from None


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(1 << 16)
    except (OSError, HTTPException) as error:
        raise _Dropped(str(error) or type(error).__name__) from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
