"""Keep messages in a temporary file, and give them back author by author, in the order of time."""

import hashlib
import hmac
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from programs.data.makers.message import Message
from r2p_dspy.errors import DataError
from r2p_dspy.values.words import words

_CACHE = 32 << 10  # KB of memory for the file's pages
_TABLES = """
CREATE TABLE messages (author TEXT, time INTEGER, subject TEXT, body TEXT);
CREATE TABLE bodies (digest INTEGER PRIMARY KEY);
"""


class MessageStore:
    """Messages by author; memory holds one message at a time, whatever their number.

    Args:
        connection: of an empty database.
        salt: decides the hashes of the authors, and so their order.
    """

    def __init__(self, connection: sqlite3.Connection, salt: bytes):
        self._database, self._salt = connection, salt
        for setting in (f"cache_size = -{_CACHE}", "journal_mode = OFF", "synchronous = OFF"):
            connection.execute(f"PRAGMA {setting}")
        connection.executescript(_TABLES)

    def add(self, message: Message) -> bool:
        """Keep a message; False if another one has the same words in its body, whoever wrote it."""
        key = int.from_bytes(hashlib.blake2b(_letters(message.body), digest_size=8).digest(), "big", signed=True)
        new = self._database.execute("INSERT OR IGNORE INTO bodies VALUES (?)", (key,)).rowcount > 0
        if new:
            row = (self._hash(message.author), message.time, message.subject, message.body)
            self._database.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", row)
        return new

    def authors(self) -> Iterator[tuple[str, Iterable[Message]]]:
        """The authors by their hashes, each with the author's messages from old to new."""
        # Of messages of one second, the one that was read last is the oldest: git tells the newest first.
        rows = self._database.execute("SELECT * FROM messages ORDER BY author, time, rowid DESC")
        yield from groupby(map(Message._make, rows), key=lambda message: message.author)

    def _hash(self, author: str) -> str:
        return hmac.new(self._salt, author.encode(errors="backslashreplace"), "sha256").hexdigest()[:16]


@contextmanager
def message_store(salt: bytes) -> Iterator[MessageStore]:
    """A store in a temporary folder that only its owner can read, and that is removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "messages.sqlite", isolation_level=None)
        try:
            connection.execute("PRAGMA temp_store = FILE")
            yield MessageStore(connection, salt)
        except sqlite3.OperationalError as error:
            raise DataError(
                f"the temporary file of the messages failed ({error}); set TMPDIR to a larger disk"
            ) from None
        finally:
            connection.close()


def _letters(text: str) -> bytes:
    """The words of a text as bytes, without numbers."""
    return " ".join(word for word in words(text) if not word.isdecimal()).encode()
