"""The errors that this project raises; `modules/failures.py` has those that carry a prediction."""


class R2PError(Exception):
    """The root of this project's errors. Its message is one line: what was wrong, where, and what to do."""


class ConfigError(R2PError, ValueError):
    """A setting, an argument or an option that cannot be used."""


class DataError(R2PError, ValueError):
    """A data file that cannot be used; the message says which one and where in it."""


_LONGEST = 1000  # characters of a message that quotes a file


class ArtifactError(R2PError):
    """A compiled program's file that cannot be read, or does not fit the program it is loaded into."""

    def __init__(self, message: str) -> None:
        # The file may be a stranger's: characters that a terminal obeys are replaced, and megabytes are not quoted.
        words = " ".join(message.split())
        if len(words) > _LONGEST:
            words = f"{words[: _LONGEST * 3 // 4]} … {words[-_LONGEST // 4 :]}"
        super().__init__("".join(char if char.isprintable() else "\ufffd" for char in words))


class StoreError(R2PError):
    """A profile store that cannot be used, or not now: busy, unreachable, full, or of a newer version.

    What the call was to write is not written.
    """


class RunError(R2PError):
    """A run directory that cannot be used."""


class CheckError(R2PError):
    """A check raised instead of returning a verdict: a fault of the check, not of the answer."""
