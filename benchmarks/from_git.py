"""Measure `data from-git` on a large repository: `python -m benchmarks.from_git`.

The repository is synthetic: `git fast-import` makes it in a temporary folder, with bots, merges and trailers; its texts
are words drawn at random. The command runs in a process of its own.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

_FIRST = 1_400_000_000  # seconds since 1970, of the first commit
_WORDS = 5000


def write_repository(folder: Path, commits: int, authors: int) -> None:
    """Make a bare repository with so many commits of so many authors, one in ten a merge or a bot's."""
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder)], check=True)
    command = ["git", "-C", str(folder), "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        rng = random.Random(0)
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(_WORDS)]
        for number in range(1, commits + 1):
            process.stdin.write(_commit(rng, words, number, authors))
    if process.returncode:
        raise click.ClickException("git fast-import failed")
    subprocess.run(["git", "-C", str(folder), "symbolic-ref", "HEAD", "refs/heads/main"], check=True)


def _commit(rng: random.Random, words: list[str], number: int, authors: int) -> bytes:
    author = min(int(rng.expovariate(8 / authors)), authors - 1)
    name = "dependabot[bot]" if rng.random() < 0.05 else f"Author {author}"
    body = "\n\n".join(" ".join(rng.choices(words, k=rng.randint(8, 60))) for _ in range(rng.randint(0, 3)))
    text = f"{rng.choice(words)}: {' '.join(rng.choices(words, k=6))} (#{number})\n\n{body}\n\n"
    message = f"{text}Fixes #{number}\nSigned-off-by: {name} <a{author}@example.org>\n".encode()
    lines = [f"commit refs/heads/main\nmark :{number}"]
    lines += [
        f"{role} {name} <a{author}@example.org> {_FIRST + 600 * number} +0000" for role in ("author", "committer")
    ]
    head = "\n".join(lines).encode() + b"\ndata %d\n" % len(message) + message
    parents = b"from :%d\n" % (number - 1) if number > 1 else b""
    merged = b"merge :%d\n" % (number - 2) if number > 2 and rng.random() < 0.05 else b""
    return head + parents + merged + b"\n"


@click.command()
@click.option("--commits", default=50_000, show_default=True, type=click.IntRange(100), help="Make so many commits.")
@click.option("--authors", default=500, show_default=True, type=click.IntRange(2), help="Of at most so many authors.")
def main(commits: int, authors: int) -> None:
    """Print the seconds and the peak memory of `data from-git`, imports included."""
    with tempfile.TemporaryDirectory() as name:
        repository, output = Path(name) / "repository.git", Path(name) / "data"
        write_repository(repository, commits, authors)
        command = [sys.executable, "cli.py", "data", "from-git", str(repository), "--output", str(output)]
        started = time.monotonic()
        before = _peak()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - started
        size = sum(path.stat().st_size for path in output.iterdir()) / 1e6
        # The largest process among the children and theirs; what made the repository ran before.
        click.echo(f"{commits:,} commits: {seconds:.1f} s, {_peak():.0f} MB at the peak, {size:.0f} MB of files")
        click.echo(f"(making the repository took at most {before:.0f} MB)")


def _peak() -> float:
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main()
