"""Clean the text of commits: what people wrote stays, what tools and forges added goes."""

import re

from programs.data.makers.message import Message, plain, shortened

_LONGEST = 20_000  # characters of a body that are looked at
# Trailers by their names: what git, forges and review tools add. Anywhere in the text.
_NAMES = (
    r"(?:[a-z]+-)+by|cc|change-id|git-svn-id|svn-id|differential revision|pulled by|piperorigin-revid|gitorigin-revid|"
    r"cr-[a-z-]+|commit-queue|auto-submit|closes-bug|partial-bug|related-bug|signed-off|message-id|in-reply-to|"
    r"github-(?:last-rev|pull-request|issue)|source-link|run-tryjob|(?:luci-)?trybot-result|changelog(?:-[a-z]+)?"
)
# These are trailers only where a reference follows: people also begin sentences so.
_REFERRING = (
    r"fix(?:es|ed)?|close[sd]?|resolve[sd]?|refs?|references|related(?:-to)?|links?|see(?:[- ]also)?|bugs?|bug-[a-z]+|"
    r"issues?|jira|ticket|pr|pull[- ]request|mr|merge[- ]request|review(?:ed|er|ers)?|approved|tested|upstream|"
    r"pr-url|depends(?:-on)?|implements|blueprint|milestone|backport|origin|forwarded|code-review|verified|tracking"
)
_TRAILER = re.compile(
    rf"(?:{_NAMES})\s?:\s*\S.*|(?:{_REFERRING})\s?:(?:\s*\S+){{0,3}}|fixes: [0-9a-f]{{7,40}}\b.*", re.IGNORECASE
)
_HYPHENED = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)+: \S.*")  # any other trailer, in the last paragraph alone
_ADDED = re.compile(
    r"\((?:cherry[- ]?picked|backported|adapted|rebased) from .*|#?\s*conflicts:.*|---+|===+|\W*generated with .*",
    re.IGNORECASE,
)
_REFERENCE = r"(?:[\w./-]*#\d+|gh-\d+|bpo-\d+|[A-Z][A-Z0-9]+-\d+|https?://\S+)"
_REFERENCES_ALONE = re.compile(
    rf"(?:[-*]\s+)?(?:(?:fix(?:es|ed)?|close[sd]?|resolve[sd]?|see|also|refs?|references|related|part|addresses|towards|"
    rf"issues?|bugs?|pr|for|of|to|in|and|the|pull|request|ticket)[\s:,]+)*{_REFERENCE}(?:[\s,;&]+(?:and\s+)?{_REFERENCE})*[\s.,;]*",
    re.IGNORECASE,
)
_SUBJECT_REFERENCE = re.compile(
    r"\s*[(\[](?:(?:gh|pr|issue|closes|fixes|fix|see|bpo|pull|request)[\s:-]*)*#?(?:[\w./-]*#)?\d+(?:,\s*#\d+)*[)\]]|"
    r"(?<![\w/])[\w./-]*#\d+:?|^(?:gh|bpo|issue|bug)[ -]#?\d+\b[:,]?|"
    r"^\[?(?!(?:utf|iso|rfc|cve|sha|md|aes|pep|nep|ieee|ghsa)-)[a-z][a-z0-9]{1,9}-\d{3,}\b(?!-)\]?:?",
    re.IGNORECASE,
)
_DIRECTIVE = re.compile(r"\[(?:skip|no|ci|only)[ -][\w -]{1,30}\]|\*\*\*NO_CI\*\*\*", re.IGNORECASE)  # to a CI
_RELEASE = re.compile(
    r"(?:[\d.]+, )?(?:(?:(?:chore|rel|build)\W+)?(?:release|version|bump|prepare|tag|rel|to|for)\W+)*v?\d+\.\d+\S*"
    r"(?:\s\(\w+\)|\srelease)?",
    re.IGNORECASE,
)
_REVERT = re.compile(r"(?:revert|reapply|reland|roll ?back|back ?out)\b", re.IGNORECASE)
_MERGE = re.compile(
    r"merged? (?:branch|branches|pull request|pr|mr|merge request|remote|tag|tags|commit|changes|in|from|upstream|main|"
    r"master|develop|#\d+)\b|auto(?:matic|-?)? ?merge",
    re.IGNORECASE,
)
_FIXUP = re.compile(r"(?:fixup|squash|amend)!|wip\b", re.IGNORECASE)
_ROBOT = re.compile(
    r"\[bot\]|(?:^|[\s._+-])(?:ro)?bot(?:$|[\s@._+-])|(?:^|[\s._-])(?:ci|builds?|automation|auto-?(?:roll(?:er)?|merge|"
    r"commit|update)|sync|release|deploy)-?(?:bot|user|account|service)?@|no-?reply@(?!users\.)|^(?:jenkins|travis)$|"
    r"dependabot|renovate|greenkeeper|github-?actions|gitlab-?ci|travis-?ci|pyup|snyk|weblate|transifex|crowdin|copybara|"
    r"mergify|\bbors\b|\bhomu\b|pre-commit-ci|allcontributors|semantic-release|autoroll|buildbot|imgbot|codecov|circleci|"
    r"service account",
    re.IGNORECASE,
)


def is_robot(name: str, address: str) -> bool:
    """Whether a program commits under this name or address.

    Examples:
        >>> is_robot("dependabot[bot]", "49699333+dependabot[bot]@users.noreply.github.com")
        True
        >>> is_robot("Ada Talbot", "12+ada@users.noreply.github.com")
        False
    """
    return any(map(_ROBOT.search, (name, address)))


def kind_left_out(subject: str, body: str) -> str | None:
    """What a commit is that nobody worded, by its message: a merge, a revert, a fixup, a release; None for any other.

    Examples:
        >>> kind_left_out('Revert "parser: keep tabs"', "This reverts commit 0a1b2c."), kind_left_out("Add tabs", "")
        ('reverts', None)
    """
    if _REVERT.match(subject) or body.startswith("This reverts commit "):
        return "reverts"
    if _MERGE.match(subject):
        return "merges"
    if _FIXUP.match(subject):
        return "fixups"
    if _RELEASE.fullmatch(subject[:100]):
        return "releases"
    return None


def clean(author: str, time: int, subject: str, body: str) -> Message:
    """A commit as a message: without trailers, references to issues, links and addresses.

    A subject that the forge has cut, with its rest in the body, becomes empty.

    Examples:
        >>> body = "A tab is eight columns wide.\\n\\nFixes #12.\\nSigned-off-by: Ada <ada@rain.example>"
        >>> clean("ada", 0, "parser: keep tabs (#12)", body)
        Message(author='ada', time=0, subject='parser: keep tabs', body='A tab is eight columns wide.')
    """
    cut = subject.endswith(("…", "...")) and body.lstrip().startswith(("…", "..."))
    subject = "" if cut else clean_subject(subject)
    return Message(author, time, subject, shortened(clean_body(body), subject))


def clean_subject(subject: str) -> str:
    """A subject without the numbers of issues and pull requests, which no text foretells.

    Examples:
        >>> clean_subject("BUG: fix #123, keep tabs (GH-4, #5)"), clean_subject("gh-1200: Keep tabs")
        ('BUG: fix, keep tabs', 'Keep tabs')
    """
    short = " ".join(subject[:500].split())
    without = plain(_SUBJECT_REFERENCE.sub("", _DIRECTIVE.sub("", short)))
    return re.sub(r"\s+([,.:;])", r"\1", without).strip(" ,;")


def clean_body(body: str) -> str:
    """A body on one line, without what tools added."""
    paragraphs = re.split(r"\n[ \t]*\n", body[:_LONGEST].replace("\r\n", "\n").strip())
    last = paragraphs[-1].splitlines()
    if all(_HYPHENED.match(line) or _is_added(line) for line in last):
        paragraphs.pop()
    lines = (line for paragraph in paragraphs for line in _worded(paragraph))
    return plain(_DIRECTIVE.sub("", "\n".join(lines)))


def _worded(paragraph: str) -> list[str]:
    """The lines of a paragraph that a person worded; an indented line goes on with the line above it."""
    kept: list[str] = []
    dropping = False
    for line in paragraph.splitlines():
        dropping = _is_added(line) or (dropping and line[:1].isspace())
        if not dropping:
            kept.append(line)
    return kept


def _is_added(line: str) -> bool:
    text = line.strip()
    return any(pattern.fullmatch(text) for pattern in (_TRAILER, _ADDED, _REFERENCES_ALONE))
