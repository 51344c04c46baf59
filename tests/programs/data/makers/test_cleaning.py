"""What people wrote stays, what tools added goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs.data.makers import commit_text, mail_text
from programs.data.makers.message import MOST_CHARACTERS, Message, flaw, plain, shortened

TEXT = "A tab is eight columns wide in all editors."
LINES = st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=12).map("\n".join)

TRAILERS = [
    "Signed-off-by: Ada <ada@rain.example>",
    "Co-authored-by: Bob <bob@rain.example>\nCo-Authored-By: Eve <eve@rain.example>",
    "Change-Id: I0123456789abcdef",
    "Reviewed-by: Bob\nAcked-by: Eve\nCc: stable@kernel.example",
    "Fixes: 1a2b3c4 (tabs were lost)",
    "Fixes #12.",
    "Closes #12, #13 and #14",
    "- see #77",
    "Resolves: rhbz#1234",
    "(cherry picked from commit 0123456789abcdef)",
    "git-svn-id: https://svn.example/trunk@77 0a1b2c3d-uuid",
    "PiperOrigin-RevId: 123456",
    "Differential Revision: https://reviews.example/D12",
    "https://rain.example/issue/12",
    "PR-URL: https://rain.example/pull/7",
    "Ref:\nhttps://rain.example/issue/12",
    "[skip ci] [ci skip]",
    "Some-Unknown-Trailer: yes",
    "Cc: Bob\n  and Eve",
]


@pytest.mark.parametrize("trailers", TRAILERS)
def test_trailers_go(trailers):
    assert commit_text.clean_body(f"{TEXT}\n\n{trailers}") == TEXT
    assert commit_text.clean_body(f"{TEXT}\n\n{trailers}\n") == TEXT


@pytest.mark.parametrize(
    "body",
    [
        "Note: the parser counts bytes, and not columns.",
        "Fixes: the parser now counts columns in all of the files.",
        "Fix the parser, which counted bytes.",
        "Ada said: count the columns.",
        "UTF-8 is read again.",
        "See the parser for why #12 is hard to fix.",
    ],
)
def test_sentences_stay(body):
    assert commit_text.clean_body(body) == body


@pytest.mark.parametrize(
    ("subject", "clean"),
    [
        ("parser: keep tabs (#12)", "parser: keep tabs"),
        ("parser: keep tabs (#12, #13)", "parser: keep tabs"),
        ("parser: keep tabs (fixes #12)", "parser: keep tabs"),
        ("gh-1200: Keep tabs", "Keep tabs"),
        ("bpo-44000: Keep tabs (GH-27000)", "Keep tabs"),
        ("[RAIN-1234] Keep tabs", "Keep tabs"),
        ("RAIN-1234: Keep tabs", "Keep tabs"),
        ("Fix #12: keep tabs", "Fix keep tabs"),
        ("fix(core): read UTF-8 names (2)", "fix(core): read UTF-8 names"),
        ("Python 3.12: keep tabs", "Python 3.12: keep tabs"),
        ("BUG: 1-D arrays keep their shape", "BUG: 1-D arrays keep their shape"),
        ("CVE-2023-1234: keep tabs", "CVE-2023-1234: keep tabs"),
        ("SHA-256: read it faster", "SHA-256: read it faster"),
        ("  keep   tabs ", "keep tabs"),
    ],
)
def test_numbers_of_issues_leave_the_subject(subject, clean):
    assert commit_text.clean_subject(subject) == clean


@pytest.mark.parametrize(
    ("name", "address", "robot"),
    [
        ("dependabot[bot]", "x@users.noreply.github.com", True),
        ("renovate", "bot@renovateapp.example", True),
        ("rain-bot", "rain@x.example", True),
        ("CI", "ci@rain.example", True),
        ("GitHub", "noreply@github.com", True),
        ("Travis Rain", "travis@rain.example", False),
        ("Tom Jenkins", "jenkins.tom@rain.example", False),
        ("Ada Abbot", "12+abbot@users.noreply.github.com", False),
        ("Botond", "botond@rain.example", False),
    ],
)
def test_programs_are_told_from_people(name, address, robot):
    assert commit_text.is_robot(name, address) is robot


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("Merge branch 'main' into tabs", "merges"),
        ("Merge pull request #7 from ada/tabs", "merges"),
        ("Merge remote-tracking branch 'origin/main'", "merges"),
        ("Merged in tabs (pull request #7)", "merges"),
        ('Revert "keep tabs"', "reverts"),
        ("fixup! keep tabs", "fixups"),
        ("Merge two parsers that did the same", None),
        ("Reverse the order of tabs", None),
        ("Release 1.2.3", "releases"),
        ("chore(release): v1.2.0-rc1", "releases"),
        ("2014.01.23, Version 0.11.18 (Unstable)", "releases"),
        ("Bump version to 2.0", "releases"),
        ("Release notes for 1.2", None),
        ("2.0 of the parser keeps tabs", None),
    ],
)
def test_commits_that_nobody_worded(subject, kind):
    assert commit_text.kind_left_out(subject, "") == kind


def test_a_subject_that_the_forge_cut_is_none():
    assert commit_text.clean("ada", 1, "parser: keep the tabs of …", f"…all files\n\n{TEXT}").subject == ""


@given(LINES, LINES)
def test_a_clean_commit_is_on_one_line_and_cleaning_ends(subject, body):
    message = commit_text.clean("ada", 1, subject, body)
    for text in (message.subject, message.body):
        assert "\n" not in text and text == " ".join(text.split())
    assert len(message.body) <= MOST_CHARACTERS


@given(st.text("a@.<>:/-_ \n#1", max_size=300))
def test_no_address_and_no_link_stays(text):
    raw = f"{text} ada@rain.example https://rain.example/x {text}"
    cleaned = plain(raw)
    assert "ada@rain.example" not in cleaned and "https://rain" not in cleaned


@pytest.mark.parametrize("clean", [commit_text.clean_body, mail_text.clean_body, commit_text.clean_subject])
@pytest.mark.parametrize(
    "part", ["a", "@", "a@", "#1", "On ", "- ", ">", "fix ", "a-", "[", "(", "_", "see #1 ", "x: "]
)
@pytest.mark.timeout(10)
def test_long_texts_take_no_time(clean, part):
    assert len(clean(part * 50_000)) <= 50_000 * len(part)


def test_a_body_begins_after_its_subject_and_ends_at_a_word():
    assert shortened(f"keep tabs: {TEXT}", "Keep tabs") == TEXT
    long = shortened("word " * 1000, "keep tabs")
    assert len(long) <= MOST_CHARACTERS and long.endswith("word")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("ada", 1, "keep tabs", TEXT), None),
        (Message("ada", 1, "タブを保持する", "すべてのエディタでタブの幅は八桁です。"), None),
        (Message("ada", 1, "tabs", TEXT), "unusable subjects"),
        (Message("ada", 1, "", TEXT), "unusable subjects"),
        (Message("ada", 1, "keep tabs " * 40, TEXT), "unusable subjects"),
        (Message("ada", 1, "keep tabs", "As said."), "short bodies"),
        (Message("", 1, "keep tabs", TEXT), "broken headers"),
        (Message("ada", -1, "keep tabs", TEXT), "broken headers"),
        (Message("ada", 10**14, "keep tabs", TEXT), "broken headers"),
    ],
)
def test_messages_of_no_use_have_a_reason(message, reason):
    assert flaw(message) == reason


QUOTES = [
    "> Which day?\n> Thursday?",
    "On Mon, 4 May 2020 at 10:12, Bob <bob@rain.example> wrote:\n> Which day?",
    "On Mon, 4 May 2020 at 10:12, Bob Rain of the very long name\n<bob@rain.example> wrote:\n>> Which day?",
    "Am 04.05.20 um 10:12 schrieb Bob:\n> Welcher Tag?",
    "Le lun. 4 mai 2020 à 10:12, Bob a écrit :\n> Quel jour ?",
    "-- \nAda Rain\nRoom 7",
    "--\nAda Rain",
    "-----Original Message-----\nFrom: Bob\nWhich day?",
    "From: Bob\nSent: Monday\nTo: Ada\nSubject: Day\n\nWhich day?",
    "---------- Forwarded message ---------\nWhich day?",
    "_______________________________________________\nrain mailing list\nrain@lists.example",
    "Sent from my phone",
    "-----BEGIN PGP SIGNATURE-----\nabc",
]


@pytest.mark.parametrize("quoted", QUOTES)
def test_quotes_and_signatures_go(quoted):
    assert mail_text.clean_body(f"Thursday is fine for me.\n\n{quoted}") == "Thursday is fine for me."
    assert mail_text.clean_body(f"Thursday is fine for me.\r\n\r\n{quoted}") == "Thursday is fine for me."


def test_answers_between_quotes_stay():
    body = "On Monday Bob wrote:\n> Which day?\nThursday.\n> Which room?\nThe blue one.\n-- \nAda"
    assert mail_text.clean_body(body) == "Thursday. The blue one."
    assert mail_text.clean_body("From: here to the sea is a day's walk.\nBring water.") == (
        "From: here to the sea is a day's walk. Bring water."
    )


@pytest.mark.parametrize(
    ("subject", "listed", "own"),
    [
        ("Lunch on Thursday", False, "Lunch on Thursday"),
        ("Re: Lunch on Thursday", False, None),
        ("RE: FW: Lunch on Thursday", False, None),
        ("AW: Mittagessen", False, None),
        ("Re[2]: Lunch on Thursday", False, None),
        ("回复：午饭", False, None),
        ("Re: Room 7 is wet (was: Lunch on Thursday)", False, "Room 7 is wet"),
        ("[rain] Re: Lunch on Thursday", True, None),
        ("[rain] Lunch on Thursday", True, "Lunch on Thursday"),
        ("[urgent] Lunch on Thursday", False, "[urgent] Lunch on Thursday"),
        ("Reading: a list", False, "Reading: a list"),
    ],
)
def test_replies_have_no_subject_of_their_own(subject, listed, own):
    assert mail_text.own_subject(subject, listed) == own


@given(LINES, st.text(max_size=100))
def test_a_clean_mail_is_on_one_line(body, subject):
    cleaned = mail_text.clean_body(body)
    assert cleaned == " ".join(cleaned.split())
    mail_text.own_subject(subject, True)
