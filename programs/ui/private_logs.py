"""Log lines without users' texts: what DSPy, LiteLLM and TRL log may quote an example, a prompt or an answer."""

import contextlib
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

from programs.text import one_line, truncate

_MOST = 300  # characters of a message
_LONGEST_NAME = 30  # characters of a quoted name, such as a model's; what is longer may be a user's text
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|“[^”]*”|‘[^’]*’|«[^»]*»|「[^」]*」")
_ROWS = logging.getLogger("dspy.utils.parallelizer")  # logs whole rows
_ROW = re.compile(r"\bExample\(\{'id': '([^']{1,60})'")


@contextlib.contextmanager
def private_logs() -> Iterator[None]:
    """Keep users' texts out of what is logged meanwhile, by whatever library.

    A line that is logged while an exception is handled becomes the row's id, and the exception's type and message (see
    `public_message`). Tracebacks are left out, because they end with the message. Other lines are shortened likewise.
    """
    make_record = logging.getLogRecordFactory()
    _ROWS.addFilter(_private_row)  # and stays: calls in flight may fail, and be logged, after a command's error
    logging.setLogRecordFactory(lambda *args, **options: _make_private(make_record(*args, **options)))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Pydantic serializer warnings")  # they quote the value
            yield
    finally:
        logging.setLogRecordFactory(make_record)


def _make_private(record: logging.LogRecord) -> logging.LogRecord:
    """Take users' texts out of a log record, once."""
    if getattr(record, "is_private", False):
        return record
    error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
    message = record.getMessage()
    row = _ROW.search(message)
    where = f"row {one_line(row[1])}: " if row else ""
    what = public_text(message) if error is None else f"{type(error).__name__}: {public_message(error)}"
    record.msg = where + what
    record.args, record.exc_info, record.exc_text, record.stack_info = (), None, None, None
    record.is_private = True
    return record


def _private_row(record: logging.LogRecord) -> bool:
    _make_private(record)
    return True


@contextlib.contextmanager
def keyless_logs() -> Iterator[None]:
    """Keep keys out of what is logged meanwhile, tracebacks included; users' texts stay, as `--verbose` wants them."""
    from r2p_dspy.engines.keys import without_credentials

    make_record = logging.getLogRecordFactory()
    _ROWS.removeFilter(_private_row)

    def make_keyless_record(*args: Any, **options: Any) -> logging.LogRecord:
        record = make_record(*args, **options)
        record.msg, record.args = without_credentials(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = without_credentials("".join(traceback.format_exception(*record.exc_info)).rstrip())
            record.exc_info = None
        return record

    logging.setLogRecordFactory(make_keyless_record)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make_record)


def public_message(error: BaseException) -> str:
    """An exception's message without what may be a user's text; see `public_text`.

    Examples:
        >>> public_message(ValueError("the prompt 'I met her by the lighthouse' is too long"))
        'the prompt … is too long'
    """
    from dspy.utils.exceptions import AdapterParseError

    if isinstance(error, AdapterParseError):  # its message holds the whole answer, which quotes the user's history
        return "the answer cannot be read as the signature's outputs"
    return public_text(str(error))


def public_text(text: str) -> str:
    """The first line of a text, without long quotes and what follows a line break.

    Examples:
        >>> public_text("no model 'gpt-4o' for 'a night in May'\\nPrompt: …")
        "no model 'gpt-4o' for …"
    """
    from r2p_dspy.engines.keys import without_credentials

    first = without_credentials(text.strip().partition("\n")[0])
    return truncate(one_line(_QUOTED.sub(_name_or_ellipsis, first)), _MOST)


def _name_or_ellipsis(quoted: re.Match[str]) -> str:
    inner = quoted[0][1:-1]
    return quoted[0] if len(inner) <= _LONGEST_NAME and not re.search(r"\s", inner) else "…"
