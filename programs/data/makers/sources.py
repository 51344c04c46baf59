"""From repositories and mail boxes to files: what `data from-git`, `data from-mbox` and `--data git:…` do."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from programs.data.makers import git, mbox
from programs.data.makers.making import ROWS, MakerConfig, Summary, make, new_folder
from programs.data.makers.message import Message
from programs.tasks import lamp6
from programs.tasks.commits import TASK as COMMITS
from programs.tasks.task import Task
from r2p_dspy.engines.model_cache import building, cache_folder
from r2p_dspy.errors import DataError
from r2p_dspy.files import digest

GIT = "git:"  # what a --data begins with that names a repository
_ON_THE_FLY = MakerConfig(limit=2000)  # of its data
_RULES = 1  # raised whenever other data come of the same history
_PROGRESS = 5000  # messages between two reports of progress

Progress = Callable[[str], None]


def from_git(repositories: Sequence[str], config: MakerConfig, folder: Path, progress: Progress) -> Summary:
    """Make data from the commits of repositories, in a new folder.

    One author's commits in several repositories are one history. For what is refused see `making` and `git.repository`.
    """
    sources = [git.repository(path) for path in repositories]  # all, before anything is read
    with new_folder(folder) as part:
        return _of_commits(sources, config, part, progress)


def from_mbox(files: Sequence[str], config: MakerConfig, folder: Path, progress: Progress) -> Summary:
    """Make data from the e-mails of mbox files, in a new folder; see `mbox.mailbox` for what is refused."""
    paths, left_out = [mbox.mailbox(path) for path in files], Counter[str]()
    emails = chain.from_iterable(mbox.emails(path, left_out) for path in paths)
    read, facts = _reporting(emails, left_out, "e-mails", progress), {"mailboxes": [path.name for path in paths]}
    with new_folder(folder) as part:
        return make(read, left_out, config, part, wording=lamp6.TASK.wording(""), source=facts)


def folder_of(task: Task, source: str, progress: Progress = lambda line: None) -> Path:
    """The file or folder that a `--data` names; of `git:REPOSITORY`, a folder in the cache.

    The data of a repository are made once for each HEAD, with the default settings and at most 2,000 authors. Their
    salt comes from the repository's path and HEAD, so that the same command finds the same examples. When new data are
    made, those of the repository's earlier HEADs are removed.

    Raises:
        DataError: one line, for a repository that cannot be used, and for a task that commits are no data of.
    """
    if not source.startswith(GIT):
        return Path(source)
    if task.shape != COMMITS.shape:
        raise DataError(f"{source} has commits, which are no data of {task.name}; give --task {COMMITS.name}")
    repository = git.repository(source.removeprefix(GIT))
    own = cache_folder("data") / f"git-{digest(str(repository.path))}"
    folder = own / digest(f"{_RULES} {repository.head} {_ON_THE_FLY}")
    if folder.is_dir():
        return folder
    salt = hashlib.sha256(f"{repository.path} {repository.head}".encode(errors="backslashreplace")).hexdigest()
    with building(folder) as part:
        if part is not None:  # else another process has made them
            part.chmod(0o700)
            progress(f"reading the commits of {repository.path}, once for this HEAD")
            _of_commits([repository], replace(_ON_THE_FLY, salt=salt), part, progress)
    for earlier in own.glob("[!.]*"):
        if earlier != folder:
            shutil.rmtree(earlier, ignore_errors=True)
    return folder


def rows_of(task: Task, source: str, progress: Progress = lambda line: None) -> Path:
    """The file of rows that an `--input` of `predict` names; of `git:REPOSITORY`, the questions of dev."""
    folder = folder_of(task, source, progress)
    return folder / ROWS if source.startswith(GIT) else folder


def _of_commits(
    repositories: Sequence[git.Repository], config: MakerConfig, folder: Path, progress: Progress
) -> Summary:
    left_out = Counter[str]()
    commits = chain.from_iterable(git.commits(repository, left_out) for repository in repositories)
    facts = {"commits_of": [{"repository": each.path.name, "head": each.head} for each in repositories]}
    read = _reporting(commits, left_out, "commits", progress)
    return make(read, left_out, config, folder, wording=COMMITS.wording(""), source=facts)


def _reporting(messages: Iterable[Message], counts: Counter[str], what: str, progress: Progress) -> Iterator[Message]:
    """The messages; how many were read until now is reported now and then."""
    for number, message in enumerate(messages, start=1):
        if not number % _PROGRESS:
            progress(f"{counts[what]:,} {what} read")
        yield message
