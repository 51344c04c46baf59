"""E-mails come out of mbox files, whatever their encodings; what their sender did not word is counted."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs.data.makers import mbox
from r2p_dspy.errors import DataError

BODY = "The room under the roof is wet again, so we meet downstairs."
DATE = "Thu, 7 May 2020 10:12:00 +0200"


def mail(subject="Room 7 is wet", body=BODY, *, sender="Ada <ADA@rain.example>", date=DATE, headers=()):
    lines = [f"From: {sender}", f"Date: {date}", f"Subject: {subject}", *headers]
    head = "\n".join(lines).encode("utf-8", "surrogateescape")
    text = body if isinstance(body, bytes) else body.encode()
    return b"From ada@rain.example Thu May  7 10:12:00 2020\n" + head + b"\n\n" + text + b"\n\n"


def read(path, *mails):
    path.write_bytes(b"".join(mails))
    left_out = Counter()
    return list(mbox.emails(mbox.mailbox(path), left_out)), +left_out


def typed(charset, transfer="8bit"):
    return [f"Content-Type: text/plain; charset={charset}", f"Content-Transfer-Encoding: {transfer}"]


def test_what_the_sender_wrote_is_read(tmp_path):
    body = f"{BODY}\n\nOn Monday Bob wrote:\n> Where?\n-- \nAda, ada@rain.example"
    [message], left_out = read(tmp_path / "m", mail(body=body))
    assert message == ("ada@rain.example", 1_588_839_120, "Room 7 is wet", BODY)
    assert message.date == "2020-05-07" and left_out == {"e-mails": 1}


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"subject": "Re: Room 7 is wet"}, "replies without a subject of their own"),
        ({"subject": "wet"}, "unusable subjects"),
        ({"body": "Yes."}, "short bodies"),
        ({"body": "> " + BODY}, "short bodies"),
        ({"sender": "noreply@rain.example"}, "automatic e-mails"),
        ({"headers": ["Auto-Submitted: auto-replied"]}, "automatic e-mails"),
        ({"headers": ["Precedence: bulk"]}, "automatic e-mails"),
        ({"headers": ["Content-Type: text/html"]}, "e-mails without plain text"),
        ({"date": "yesterday"}, "broken headers"),
        ({"date": "Thu, 7 May 99999 10:12:00"}, "broken headers"),
        ({"sender": ""}, "broken headers"),
    ],
)
def test_what_is_left_out_is_counted(tmp_path, changed, kind):
    messages, left_out = read(tmp_path / "m", mail(**changed), mail(body=f"Again: {BODY}"))
    assert len(messages) == 1 and left_out == {"e-mails": 2, kind: 1}


@pytest.mark.parametrize(
    ("subject", "body", "headers", "expected", "broken"),
    [
        ("=?utf-8?q?Dach_undicht=3A_n=C3=A4sse?=", BODY, [], ("Dach undicht: nässe", BODY), 0),
        ("=?gb2312?B?t7+85CDCqcuu?= 7", BODY, [], ("房间 漏水 7", BODY), 0),
        ("Room 7 is wet", f"Nässe. {BODY}".encode("latin-1"), typed("iso-8859-1"), (None, f"Nässe. {BODY}"), 0),
        ("Room 7 is wet", f"N=C3=A4sse. {BODY}", typed("utf-8", "quoted-printable"), (None, f"Nässe. {BODY}"), 0),
        ("Room 7 is wet", f"Nässe. {BODY}".encode("latin-1"), typed("utf-8"), (None, f"Nässe. {BODY}"), 1),
        ("Room 7 is wet", f"Nässe. {BODY}".encode(), typed("no-such-thing"), (None, f"Nässe. {BODY}"), 1),
        ("Room 7 is wet", f"Nässe. {BODY}".encode("latin-1"), [], (None, f"Nässe. {BODY}"), 1),
        ("Room 7 is wet", f"N\udce4sse {BODY}".encode(errors="surrogateescape"), typed("base64"), None, 1),
        ("N\udce4sse in room 7", BODY, [], ("Nässe in room 7", BODY), 0),
        ("=?no-such-thing?q?Room_7_is_wet?=", BODY, [], ("Room 7 is wet", BODY), 0),
        ("=?utf-8?b?broken", BODY, [], ("=?utf-8?b?broken", BODY), None),
    ],
)
def test_encodings_whole_and_broken(tmp_path, subject, body, headers, expected, broken):
    messages, left_out = read(tmp_path / "m", mail(subject, body, headers=headers), mail(body=f"Again: {BODY}"))
    assert messages[-1].body == f"Again: {BODY}", "the next e-mail is read, whatever the first one is"
    if broken is not None:
        assert left_out["broken encodings"] == broken
        assert len(messages) == 2
    if expected is not None and len(messages) == 2:
        assert messages[0][2:] == (expected[0] or subject, expected[1])


def test_the_plain_part_of_several_is_read(tmp_path):
    parts = [
        "--b\nContent-Type: text/html\n\n<p>no</p>",
        "--b\nContent-Type: text/plain\nContent-Disposition: attachment\n\nnot this one, it is a file of mine",
        f"--b\nContent-Type: text/plain; charset=utf-8\n\n{BODY}",
        "--b--",
    ]
    [message], _ = read(
        tmp_path / "m", mail(body="\n".join(parts), headers=["Content-Type: multipart/mixed; boundary=b"])
    )
    assert message.body == BODY


def test_a_huge_mail_and_a_huge_line_are_cut(tmp_path):
    huge = mail(body=BODY.encode() + b"\n\n" + b"x" * 3_000_000 + b"\n" + b"y\n" * 1_000_000)
    messages, left_out = read(tmp_path / "m", huge, mail(body=f"Again: {BODY}"))
    assert left_out == {"e-mails": 2} and [len(message.body) <= 2000 for message in messages] == [True, True]
    assert messages[1].body == f"Again: {BODY}"


def test_a_sentence_that_begins_with_from_divides_nothing(tmp_path):
    body = f"{BODY}\n\nFrom here on it is dry.\n\n>From there it is wet."
    [message], left_out = read(tmp_path / "m", mail(body=body))
    assert left_out == {"e-mails": 1} and message.body == f"{BODY} From here on it is dry."


@given(data=st.binary(max_size=600))
def test_any_bytes_are_read_or_counted(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("mbox") / "m"
    messages, left_out = read(path, mail(body=data), mail()[:44] + data)
    assert left_out["e-mails"] >= 2
    assert len(messages) + sum(left_out.values()) - left_out["broken encodings"] >= left_out["e-mails"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "cannot be read .*; give mbox files"),
        (lambda path: path.mkdir(), "is a folder; give mbox files"),
        (lambda path: path.write_text("Subject: x\n\nno"), "is no mbox file"),
        (lambda path: path.write_bytes(b""), "is no mbox file"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08 gzip"), "is no mbox file"),
    ],
)
def test_what_is_no_mbox_is_refused_in_one_line(tmp_path, make, said):
    make(tmp_path / "m")
    with pytest.raises(DataError, match=said) as error:
        mbox.mailbox(tmp_path / "m")
    assert "\n" not in str(error.value)
