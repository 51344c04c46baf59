"""Small git repositories, made at once."""

import subprocess
from typing import NamedTuple

DAY = 86_400


class Commit(NamedTuple):
    """A commit; one with `merges` also has its grandparent as a parent."""

    message: bytes | str
    name: str = "Ada"
    address: str = "ada@rain.example"
    day: int = 0  # after the first of January 2020; 0 for its place
    merges: bool = False
    encoding: str = ""


def git(folder, *arguments, **how):
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, **how)


def write_repository(folder, commits, *, bare=False):
    """A repository whose main branch has these commits, in this order."""
    subprocess.run(["git", "init", "--quiet", "-b", "main", *["--bare"] * bare, str(folder)], check=True)
    lines = []
    for number, commit in enumerate(commits, start=1):
        person = f"{commit.name} <{commit.address}> {1_577_836_800 + DAY * (commit.day or number)} +0000"
        message = commit.message.encode() if isinstance(commit.message, str) else commit.message
        head = f"commit refs/heads/main\nmark :{number}\nauthor {person}\ncommitter {person}\n"
        head += f"encoding {commit.encoding}\n" * bool(commit.encoding)
        lines.append(head.encode() + b"data %d\n" % len(message) + message + b"\n")
        lines.append(b"merge :%d\n" % (number - 2) if commit.merges else b"")
    git(folder, "fast-import", "--quiet", "--force", input=b"".join(lines))
    return folder


NOUNS = "river mountain harbour orchard cellar lantern meadow valley anchor bridge candle ladder mirror needle".split()
VERBS = "opens closes carries follows crosses measures paints repairs borrows counts lifts hides".split()


def worded(number, who="x"):
    """A subject and a body that resemble those of no other number."""
    noun, verb = NOUNS[number % len(NOUNS)], VERBS[number % len(VERBS)]
    other = NOUNS[(5 * number + 3) % len(NOUNS)]
    extra = " ".join(f"{who}{'abcdefghij'[int(digit)]}{place}" for place, digit in enumerate(str(number)))
    return f"{who}: {noun} {verb} {extra}", f"The {other} of {extra} {verb} a {noun} because {who} wants {extra} again."


def commits_of(who, count):
    return [Commit("\n\n".join(worded(n, who)), who.title(), f"{who}@rain.example") for n in range(count)]
