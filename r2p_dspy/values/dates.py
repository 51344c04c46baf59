"""Dates as histories write them, read into keys that sort by time."""

import re
from datetime import UTC, datetime, timedelta, timezone

from r2p_dspy.errors import ConfigError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONES = {"z": 0, "ut": 0, "utc": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6}
_ZONES |= {"pst": -8, "pdt": -7}  # RFC 2822 has these of the United States, and no others

_YEAR_FIRST = re.compile(r"(\d{4})(?:([-/.])(\d{1,2})(?:\2(\d{1,2}))?)?(?:[Tt ]+(\d.*))?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:[Tt](\d.*))?", re.ASCII)
# The day is first wherever dots are used.
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?:,? +(\d.*))?", re.ASCII)
_EPOCH = re.compile(r"(\d{9,19})(?:\.(\d+))?", re.ASCII)  # seconds to nanoseconds; eight digits are a date
_TIME = re.compile(
    r"(?P<hour>\d{1,2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?)?"
    r"\s*(?P<half>[ap]\.?m\.?)?\s*(?P<zone>[A-Za-z]{1,3}|(?:UTC|GMT)?[+-]\d{2}:?\d{2}|[+-]\d{2})?",
    re.ASCII | re.IGNORECASE,
)
_CLOCK = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[ap]\.?m\b\.?)?", re.ASCII | re.IGNORECASE)
_OFFSET = re.compile(r"(?<!\w)[+-]\d{2}:?\d{2}\b", re.ASCII)
_WORD = re.compile(r"[A-Za-z]+|\d+", re.ASCII)
_FILLERS = {*"st nd rd th of at mon tue tues wed thu thur thurs fri sat sun".split()}
_FILLERS |= {f"{day}day" for day in ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun")}

DateKey = tuple[int, ...]


def date_key(text: str) -> DateKey:
    """Read a date into a key that sorts by time: year, month, day, hour, minute, second, microsecond.

    A date without a time has only the parts that it names, and sorts before any time of it. A time with a zone is
    converted to UTC; one without counts as UTC.

    Args:
        text: ISO 8601 (`2024-05-01T09:30:00+02:00`, `2024/5/1`, `20240501`, `2024-05`, `2024`), seconds, milli-,
            micro- or nanoseconds since 1970, `01.05.2024` (day first), and dates with an English month: `May 1, 2024`,
            `1 May 2024`, and those of mails and tweets.

    Returns:
        The key; () for a text without a digit, which names no date.

    Raises:
        ConfigError: for any other text, such as `5/1/2024`, whose day and month could be either.

    Examples:
        >>> date_key("2024/5/1"), date_key("May 1, 2024"), date_key("unknown")
        ((2024, 5, 1), (2024, 5, 1), ())
        >>> date_key("Wed, 01 May 2024 00:30:00 +0200")
        (2024, 4, 30, 22, 30, 0, 0)
    """
    text = text.strip()
    if not any(map(str.isdigit, text)):
        return ()
    try:
        if (parts := _COMPACT.fullmatch(text)) is not None:
            year, month, day, time = parts.groups()
            return _key([year, month, day], time)
        if (parts := _EPOCH.fullmatch(text)) is not None:
            return _since_1970(*parts.groups())
        if (parts := _YEAR_FIRST.fullmatch(text)) is not None:
            year, _, month, day, time = parts.groups()
            return _key([part for part in (year, month, day) if part is not None], time)
        if (parts := _DOTTED.fullmatch(text)) is not None:
            day, month, year, time = parts.groups()
            return _key([year, month, day], time)
        return _with_month_name(text)
    except (ValueError, OverflowError):
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise ConfigError(f"{shown!r} cannot be read as a date; write it as 2024-05-01") from None


def _key(date: list[str], time: str | None, zone: str = "") -> DateKey:
    numbers = tuple(map(int, date))
    if any(number > most for number, most in zip(numbers[1:], (12, 31), strict=False)):
        raise ValueError(date)
    if time is None:
        return numbers  # as they stand: some data sets write 0 for an unknown month or day
    match = _TIME.fullmatch(f"{time} {zone}".strip())
    if match is None:
        raise ValueError(time)
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    if match["half"]:
        hour = hour % 12 + (12 if match["half"][0] in "pP" else 0)
    fraction = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    leap = second == 60  # a leap second, which `datetime` does not know
    year, month, day = numbers
    moment = datetime(year, month, day, hour, minute, second - leap, fraction, _zone(match["zone"] or ""))
    return _utc(moment + timedelta(seconds=leap))


def _zone(text: str) -> timezone:
    if not text or text.lower() in _ZONES:
        return timezone(timedelta(hours=_ZONES.get(text.lower(), 0)))
    offset = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{2}):?(\d{2})?", text, re.IGNORECASE)
    if offset is None:
        raise ValueError(text)
    size = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
    return timezone(-size if offset[1] == "-" else size)


def _since_1970(digits: str, fraction: str | None) -> DateKey:
    """Seconds have up to 11 digits (the year 5138), milliseconds 14, microseconds 17, nanoseconds more."""
    thousands = max(0, (len(digits) - 9) // 3)
    microseconds = int(digits) * 1_000_000 // 1000**thousands
    if not thousands and fraction:
        microseconds += int(fraction[:6].ljust(6, "0"))
    return _utc(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds))


def _with_month_name(text: str) -> DateKey:
    """A date with the month in words, in any order of its parts."""
    clocks, offsets = _CLOCK.findall(text), _OFFSET.findall(text)
    rest = re.sub(r"\([^()]*\)", " ", _OFFSET.sub(" ", _CLOCK.sub(" ", text)))  # mails may name the zone in brackets
    words = [word.lower() for word in _WORD.findall(rest)]
    months = [word for word in words if word[:3] in _MONTHS and _is_month(word)]
    years = [word for word in words if word.isdigit() and len(word) == 4]
    days = [word for word in words if word.isdigit() and len(word) <= 2]
    zones = [*offsets, *(word for word in words if word in _ZONES)]
    known = {*months, *years, *days, *zones, *_FILLERS}
    single = len(months) == len(years) == 1 and max(len(days), len(clocks), len(offsets)) <= 1
    if not single or not known.issuperset(words) or (clocks and not days):
        raise ValueError(text)
    month = str(_MONTHS.index(months[0][:3]) + 1)
    date = [*years, month, *days]
    datetime(int(years[0]), int(month), int((days or ["1"])[0]))  # raises for a day that the month does not have
    return _key(date, clocks[0] if clocks else None, zones[0] if zones and clocks else "")


def _is_month(word: str) -> bool:
    names = "january february march april may june july august september sept october november december".split()
    return word in _MONTHS or word in names


def _utc(moment: datetime) -> DateKey:
    moment = moment.astimezone(UTC)
    return (*moment.timetuple()[:6], moment.microsecond)
