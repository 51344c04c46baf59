"""Read the e-mails of an mbox file, one at a time, whatever their encodings.

Memory holds the beginning of one e-mail. `mailbox.mbox` would keep the place of all, and read each as a whole.
"""

import email
import email.errors
import email.header
import email.message
import re
from collections import Counter
from collections.abc import Iterator
from email.utils import mktime_tz, parseaddr, parsedate_tz
from pathlib import Path

from programs.data.makers.commit_text import is_robot
from programs.data.makers.mail_text import clean_body, own_subject
from programs.data.makers.message import Message, flaw, shortened
from r2p_dspy.errors import DataError

_LONGEST = 1 << 20  # bytes of an e-mail that are read; attachments come after the text
_LONGEST_LINE = 1 << 16
_BEGINNING = re.compile(rb"From \S+.*\d{4}|From .*\d\d:\d\d")  # the line between two e-mails: who, and when
_BROKEN = "broken encodings"


def mailbox(path: str | Path) -> Path:
    """Look at an mbox file before it is read; a DataError is one line: it cannot be read, or is no mbox file."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise DataError(f"{path} is a folder; give mbox files (of a Maildir, make one first)")
    try:
        with file.open("rb") as stream:
            first = next((line for line in iter(lambda: stream.readline(_LONGEST_LINE), b"") if line.strip()), b"")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give mbox files") from None
    if not _BEGINNING.match(first):
        raise DataError(
            f'{path} is no mbox file, whose first line is "From", a sender and a date; export the mails as mbox'
        )
    return file


def emails(path: Path, left_out: Counter[str]) -> Iterator[Message]:
    """The e-mails whose subject their sender worded, in the file's order.

    Args:
        path: the file.
        left_out: counts what is left out, by its kind, "e-mails", all that were read, and "broken encodings", those
            with bytes that their encoding does not have; these are kept, with a replacement character.
    """
    for raw in _messages(path):
        left_out["e-mails"] += 1
        try:
            read = _read(raw)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, email.errors.MessageError):
            read = "broken headers"  # on some, the standard library's parser fails
        if isinstance(read, str):
            left_out[read] += 1
            continue
        message, broken = read
        left_out[_BROKEN] += broken
        if reason := flaw(message):
            left_out[reason] += 1
        else:
            yield message


def _read(raw: bytes) -> tuple[Message, bool] | str:
    """An e-mail as a message, and whether its encoding is broken; or why it is left out."""
    parsed = email.message_from_bytes(raw)
    listed = parsed.get("List-Id") is not None
    name, address = parseaddr(_header(parsed, "From"))
    if _is_automatic(parsed, listed) or is_robot(name, address):
        return "automatic e-mails"
    subject = own_subject(_header(parsed, "Subject"), listed)
    if subject is None:
        return "replies without a subject of their own"
    body = _body(parsed)
    if body is None:
        return "e-mails without plain text"
    content, broken = body
    message = Message(
        author=address.casefold() or name.casefold(),
        time=_seconds(_header(parsed, "Date")),
        subject=subject,
        body=shortened(clean_body(content), subject),
    )
    return message, broken or "\ufffd" in subject


def _seconds(date: str) -> int:
    """Seconds since 1970; -1 for a date that cannot be read."""
    sent = parsedate_tz(date)
    try:
        return int(mktime_tz(sent)) if sent else -1
    except (ValueError, OverflowError):
        return -1


def _is_automatic(parsed: email.message.Message, listed: bool) -> bool:
    """Whether a program sent the e-mail by itself (RFC 3834), or one to many who are no list."""
    automatic = _header(parsed, "Auto-Submitted").strip().lower() not in ("", "no")
    return automatic or (not listed and _header(parsed, "Precedence").strip().lower() in ("bulk", "junk", "auto_reply"))


def _header(parsed: email.message.Message, name: str) -> str:
    """A header as text; what cannot be decoded is replaced."""
    value = parsed.get(name)
    if value is None:
        return ""
    try:
        parts = email.header.decode_header(value)
    except (email.errors.HeaderParseError, ValueError):
        return str(value)
    return "".join(part if isinstance(part, str) else _decoded(part, charset)[0] for part, charset in parts)


def _body(parsed: email.message.Message) -> tuple[str, bool] | None:
    """The first part with plain text that is no attachment, see `_decoded`; None if there is none."""
    for part in parsed.walk():
        if part.get_content_type() == "text/plain" and part.get_content_disposition() != "attachment":
            payload = part.get_payload(decode=True)
            return _decoded(payload, part.get_content_charset()) if isinstance(payload, bytes) else None
    return None


def _decoded(raw: bytes, charset: str | None) -> tuple[str, bool]:
    """Bytes as text, and whether they are not in the encoding that they name.

    Such bytes are read as UTF-8, else as Windows-1252, where what cannot be read is replaced.
    """
    for named in (charset or "ascii", "utf-8"):
        try:
            return raw.decode(named), charset is not None and named != charset
        except (LookupError, ValueError):
            continue
    return raw.decode("cp1252", "replace"), True


def _messages(path: Path) -> Iterator[bytes]:
    """The e-mails of the file; of a very long one only the beginning."""
    try:
        with path.open("rb") as stream:
            lines: list[bytes] = []
            size, after_blank, begun = 0, True, False
            for line in iter(lambda: stream.readline(_LONGEST_LINE), b""):
                if after_blank and _BEGINNING.match(line):
                    if begun:
                        yield b"".join(lines)
                    lines, size, begun = [], 0, True
                elif begun and size < _LONGEST:
                    lines.append(line)
                    size += len(line)
                after_blank = not line.strip()
            if begun:
                yield b"".join(lines)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); copy it to a disk that works") from None
