"""Forget a user everywhere: runs and caches first, the store last, since it tells what to look for."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dspy

from programs.calls.cache import CallCache
from programs.stores.files import Cleaning, ledgers
from programs.stores.texts import UserTexts
from r2p_dspy.errors import RunError
from r2p_dspy.retrieval import index
from r2p_dspy.stores import ProfileStore

if TYPE_CHECKING:
    from programs.feedback.answers import Answers  # needs SQLAlchemy

_CANNOT = (
    "copies elsewhere: artifacts and answers that were handed on, MLflow, backups, logs of servers",
    "memory of other processes, until they end",
)


@dataclass(frozen=True)
class Forgotten:
    """What forgetting a user removed, and what it could not: lines for a person."""

    removed: list[str]
    left: list[str]


def forget(
    user: str, store: ProfileStore | None, places: Sequence[Path], answers: "Answers | None" = None
) -> Forgotten:
    """Delete a user's items, and all that was made of them.

    It may be repeated, and is to be after an error.

    Args:
        user: the user's name, as in the store and in the rows of data.
        store: the profile store. Its texts are also looked for in the files of all other users, which may quote them.
        places: directories and files to clean: runs, call caches, traces, compiled programs, answers.
        answers: those of a service; an anonymous answer goes too if it holds a text of the user.

    Raises:
        DataError: a place that does not exist.
        RunError: a run is in progress in one of the places, or a call cache cannot be used.
        StoreError: see `ProfileStore.delete_user`.
    """
    items = [] if store is None else list(store.get(user))
    texts = UserTexts(text for item in items for text in item.fields.values())
    cleaning = Cleaning(user, texts)
    for place in places:
        for directory in ledgers(place):
            cache = CallCache(directory)
            try:
                calls = cache.forget(user)
            except sqlite3.Error as error:
                raise RunError(f"{cache.path} cannot be cleaned ({error}); forget again when no run uses it") from None
            finally:
                cache.close()
            cleaning.removed.append(f"{cache.path}: {calls} calls, of the user or of no user in particular")
        cleaning.clean(place)
    cleaning.make_pages()
    cleaning.removed += _empty_dspy_cache()
    index.clear()
    if answers is not None:
        cleaning.removed.append(f"{answers!r}: {answers.delete_user(user, texts.are_in)} answers, and their feedback")
    if store is not None:
        cleaning.removed.append(f"{store!r}: {store.delete_user(user)} items")
    return Forgotten(cleaning.removed, [*cleaning.left, *_CANNOT])


def _empty_dspy_cache() -> list[str]:
    """Empty DSPy's cache: it keeps answers by digests of their requests, so nobody knows whose they are."""
    dspy.cache.reset_memory_cache()
    if not dspy.cache.enable_disk_cache:
        return []
    directory = Path(dspy.cache.disk_cache_dir)
    entries = dspy.cache.disk_cache.clear()
    for shard in sorted(directory.glob("*/cache.db")):
        try:
            connection = sqlite3.connect(shard, timeout=10, isolation_level=None)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
        except sqlite3.Error as error:
            raise RunError(
                f"{shard} cannot be cleaned ({error}); forget again when no program uses DSPy's cache"
            ) from None
    return [f"{directory}: DSPy's cache was emptied, {entries} answers of all users"] if entries else []
