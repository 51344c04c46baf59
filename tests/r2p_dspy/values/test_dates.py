"""Dates: the usual formats are read, and the others are refused."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2p_dspy.errors import ConfigError
from r2p_dspy.values.dates import date_key

DAY = (2024, 5, 1)
HALF_PAST_NINE = (2024, 5, 1, 9, 30, 0, 0)
QUICK = settings(max_examples=60)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1970, 1, 3), datetime(2200, 1, 1), timezones=ZONES)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("2024-05-01", DAY),
        ("2024/5/1", DAY),
        ("2024.05.01", DAY),
        (" 2024-05-01\n", DAY),
        ("20240501", DAY),
        ("2024-05", (2024, 5)),
        ("2024", (2024,)),
        ("2024-00-00", (2024, 0, 0)),
        ("01.05.2024", DAY),
        ("1.5.2024 09:30", HALF_PAST_NINE),
        ("2024-05-01T09:30", HALF_PAST_NINE),
        ("2024-05-01 09:30:00", HALF_PAST_NINE),
        ("2024-05-01T09:30:00Z", HALF_PAST_NINE),
        ("2024-05-01 09:30:00 UTC", HALF_PAST_NINE),
        ("2024-05-01T11:30:00+02:00", HALF_PAST_NINE),
        ("2024-05-01T04:00:00-0530", HALF_PAST_NINE),
        ("2024-05-01T09:30:00.25Z", (2024, 5, 1, 9, 30, 0, 250000)),
        ("2024-05-01T09:29:60Z", HALF_PAST_NINE),
        ("20240501T093000Z", HALF_PAST_NINE),
        ("1714555800", HALF_PAST_NINE),
        ("1714555800.25", (2024, 5, 1, 9, 30, 0, 250000)),
        ("1714555800000", HALF_PAST_NINE),
        ("1714555800000000", HALF_PAST_NINE),
        ("1714555800000000000", HALF_PAST_NINE),
        ("May 1, 2024", DAY),
        ("1 May 2024", DAY),
        ("1st of may 2024", DAY),
        ("Wednesday, May 1, 2024", DAY),
        ("May 2024", (2024, 5)),
        ("May 1, 2024 at 9:30 AM", HALF_PAST_NINE),
        ("May 1, 2024 12:00 am", (2024, 5, 1, 0, 0, 0, 0)),
        ("Wed, 01 May 2024 11:30:00 +0200", HALF_PAST_NINE),
        ("Wed, 1 May 2024 02:30:00 -0700 (PDT)", HALF_PAST_NINE),
        ("Wed May 01 02:30:00 PDT 2024", HALF_PAST_NINE),
        ("Wed May  1 09:30:00 2024", HALF_PAST_NINE),
        ("Wed May 01 09:30:00 +0000 2024", HALF_PAST_NINE),
        ("", ()),
        ("unknown", ()),
        ("None", ()),
    ],
)
def test_usual_formats(text, key):
    assert date_key(text) == key


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("the day or the month first", "5/1/2024"),
        ("the day or the month first", "01-05-2024"),
        ("no century", "24-05-01"),
        ("two separators", "2024-5/1"),
        ("no such month", "2024-13-01"),
        ("no such day", "2024-05-32"),
        ("no such day in the month", "February 30, 2024"),
        ("no such hour", "2024-05-01T25:00"),
        ("no such zone", "2024-05-01T09:30 XYZ"),
        ("a time alone", "09:30"),
        ("two dates", "May 1, 2024 to May 3, 2024"),
        ("words", "about 2024"),
        ("a number of another kind", "123"),
        ("more digits than a time has", "9" * 5000),
        ("digits of another script", "２０２４-05-01"),
        ("before the first year", "0001-01-01T00:00+14:00"),
    ],
)
def test_other_texts_are_refused(why, text):
    with pytest.raises(ConfigError, match="cannot be read as a date; write it as 2024-05-01"):
        date_key(text)


@QUICK
@given(MOMENTS)
def test_every_format_names_the_same_moment(moment):
    second = moment.replace(microsecond=0)
    epoch = int(second.timestamp())
    texts = [
        second.isoformat(),
        second.isoformat(" "),
        second.strftime("%a %b %d %H:%M:%S %z %Y"),
        format_datetime(second),
    ]
    if epoch >= 10**8:
        texts += [str(epoch), str(epoch * 1000)]
    expected = (*second.astimezone(UTC).timetuple()[:6], 0)
    assert {date_key(text) for text in texts} == {expected}
    assert date_key(moment.isoformat())[:6] == expected[:6]


@QUICK
@given(MOMENTS, MOMENTS)
def test_keys_sort_by_time(one, other):
    assert (date_key(one.isoformat()) < date_key(other.isoformat())) == (one < other)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        key = date_key(text)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(isinstance(part, int) for part in key) and len(key) in (0, 1, 2, 3, 7)
