"""Items as rows of a database: names of users, ids, moments, bodies, and words under a user's own key."""

import json
import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.stores.protocol import Moment
from r2p_dspy.values.dates import DateKey, date_key
from r2p_dspy.values.rows import columns_of, is_missing, rows_of, text_of, without_fraction

_LONGEST_NAME = 500  # characters of a user's name and of an item's id
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")  # no database keeps them in a text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """An item as a row."""

    id: str
    moment: int  # microseconds since 1970, in UTC
    body: str  # JSON

    @classmethod
    def of(cls, item: Item) -> "Row":
        """The row of an item; `ConfigError` for an id or a date that cannot be kept."""
        try:
            moment = None if item.date is None else moment_of(item.date)
        except ConfigError as error:
            raise ConfigError(f"item {item.id!r}: its date {error}") from None
        body = {"fields": item.fields, "label": item.label, "date": item.date}
        known = {name: value for name, value in body.items() if value is not None}
        return cls(_name(item.id, "an item's id"), time.time_ns() // 1000 if moment is None else moment, _json(known))


def user_name(user: Any) -> str:
    """A user's name as stores keep it.

    Examples:
        >>> user_name("ada"), user_name(7.0)
        ('ada', '7')
    """
    return _name(text_of(without_fraction(user)), "a user's name")


def _name(name: str | None, what: str) -> str:
    if name is None or not name.strip() or len(name) > _LONGEST_NAME or _UNFIT.search(name):
        raise ConfigError(f"{what} is a text of 1 to {_LONGEST_NAME} characters, not {str(name)[:40]!r}")
    return name


def items_of(entries: Any) -> Profile:
    """What is to be appended, as items: what `Profile.of` reads, where an entry without an id gets a random one."""
    if isinstance(entries, Profile | str):
        return Profile.of(entries)
    return Profile.of([entry if isinstance(entry, Item) else _with_id(entry) for entry in rows_of(entries)])


def _with_id(entry: Any) -> dict[str, Any]:
    columns: dict[str, Any] = {"text": None} if entry is None else columns_of(entry)
    own = columns.get("id", columns.get("item"))
    if is_missing(own) or own == "":
        columns.pop("item", None)
        columns["id"] = uuid.uuid4().hex
    return columns


def item_of(name: str, body: str) -> Item:
    """The item of a row; it was checked before it was written."""
    known = json.loads(body)
    return Item.model_construct(id=name, fields=known["fields"], label=known.get("label"), date=known.get("date"))


def moment_of(moment: Moment) -> int | None:
    """A moment in microseconds since 1970; a date is its beginning, in UTC. None for a text without a digit.

    Examples:
        >>> moment_of("1970-01-02") == moment_of(date(1970, 1, 2)) == 24 * 60 * 60 * 10**6
        True
    """
    key: DateKey = date_key(moment.isoformat() if isinstance(moment, date) else moment)
    if not key:
        return None
    year, month, day = (*key[:3], 1, 1)[:3]
    hours, minutes, seconds, microseconds = key[3:] or (0, 0, 0, 0)
    try:
        since = datetime(year, month or 1, day or 1, tzinfo=UTC) - _EPOCH
    except ValueError as error:
        raise ConfigError(f"{str(moment)!r} is no date ({error}); write it as 2024-05-01") from None
    since += timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
    return since // timedelta(microseconds=1)


def bound(moment: Moment, name: str) -> int:
    """A moment that was given as an argument."""
    try:
        known = moment_of(moment)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    if known is None:
        raise ConfigError(f"{name} is a date such as 2024-05-01, not {moment!r}")
    return known


def keyed(word: str, key: bytes) -> int:
    """A word as 63 bits that nobody can read without the key.

    An index of them holds nothing of the user's texts once the key is deleted.
    """
    return int.from_bytes(blake2b(word.encode(errors="replace"), key=key, digest_size=8).digest()) >> 1


def _json(data: Mapping[str, Any]) -> str:
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(data, separators=(",", ":")) if _UNFIT.search(body) else body
