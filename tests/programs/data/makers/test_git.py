"""Commits are read by git, whatever the repository: its kinds, its encodings, its settings."""

import os
import stat
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from programs.data.makers import git
from r2p_dspy.errors import DataError
from tests.repositories import Commit, commits_of, write_repository
from tests.repositories import git as run_git

ROOT = Path(__file__).parents[4]
BODY = "A tab is eight columns wide in all editors."


def read(path):
    left_out = Counter()
    return list(git.commits(git.repository(path), left_out)), +left_out


def test_commits_come_newest_first_and_clean(tmp_path):
    commits = [
        Commit(f"parser: keep tabs (#7)\n\n{BODY}\n\nSigned-off-by: Ada <ada@rain.example>"),
        Commit(f"parser: count tabs\n\nIn Paris. {BODY}", "Bob", "BOB@rain.example"),
    ]
    messages, left_out = read(write_repository(tmp_path / "r", commits))
    assert [message[2:] for message in messages] == [
        ("parser: count tabs", f"In Paris. {BODY}"),
        ("parser: keep tabs", BODY),
    ]
    assert [message.author for message in messages] == ["bob@rain.example", "ada@rain.example"]
    assert [message.date for message in messages] == ["2020-01-03", "2020-01-02"]
    assert left_out == {"commits": 2}


def test_what_nobody_worded_is_counted(tmp_path):
    commits = [
        Commit(f"parser: keep tabs\n\n{BODY}"),
        Commit(f"Bump rain\n\n{BODY}", "dependabot[bot]"),
        Commit(f"parser: join tabs\n\n{BODY}", merges=True),
        Commit('Revert "parser: keep tabs"\n\nThis reverts commit 0123456.'),
        Commit("parser: keep tabs"),
        Commit("parser: keep tabs\n\nFixes #7"),
        Commit(f"tabs\n\n{BODY}"),
        Commit(f"fixup! parser: keep tabs\n\n{BODY}"),
    ]
    messages, left_out = read(write_repository(tmp_path / "r", commits))
    assert len(messages) == 1
    counts = {
        "commits": 8,
        "bots": 1,
        "merges": 1,
        "reverts": 1,
        "short bodies": 2,
        "unusable subjects": 1,
        "fixups": 1,
    }
    assert left_out == counts


@pytest.mark.parametrize(
    ("raw", "encoding", "subject", "broken"),
    [
        (f"Zähler: mehr Stellen\n\n{BODY}".encode("latin-1"), "ISO-8859-1", "Zähler: mehr Stellen", 0),
        (f"Zähler: mehr Stellen\n\n{BODY}".encode(), "", "Zähler: mehr Stellen", 0),
        (b"Z\xe4hler: mehr Stellen\n\n" + BODY.encode(), "", "Z\ufffdhler: mehr Stellen", 1),
        (f"桁を数える: タブ\n\n{BODY}".encode("shift_jis"), "Shift_JIS", "桁を数える: タブ", 0),
        (f"one: two\nthree\n\n{BODY}\n\nmore".encode(), "", "one: two three", 0),
    ],
)
def test_encodings(tmp_path, raw, encoding, subject, broken):
    [message], left_out = read(write_repository(tmp_path / "r", [Commit(raw, encoding=encoding)]))
    assert message.subject == subject and left_out["broken encodings"] == broken


def test_a_mailmap_joins_the_addresses_of_one_author(tmp_path):
    repository = write_repository(
        tmp_path / "r", [*commits_of("ada", 2), Commit(f"tabs: keep\n\n{BODY}", "A", "a@old")]
    )
    (repository / ".mailmap").write_text("Ada <ada@rain.example> <a@old>\n")
    assert {message.author for message in read(repository)[0]} == {"ada@rain.example"}


def test_a_very_long_message_is_cut_and_the_next_is_whole(tmp_path):
    long = f"tabs: keep them\n\n{'eight columns wide ' * 200_000}"
    messages, _ = read(write_repository(tmp_path / "r", [Commit(f"parser: keep tabs\n\n{BODY}"), Commit(long)]))
    assert [len(message.body) < 2001 for message in messages] == [True, True]
    assert messages[1].body == BODY


@pytest.mark.parametrize("bare", [True, False])
def test_settings_of_the_repository_run_nothing(tmp_path, bare, monkeypatch):
    """Each of these settings runs a program in some command of git's."""
    repository = write_repository(tmp_path / "r", commits_of("ada", 3), bare=bare)
    marker, script = tmp_path / "ran", tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    settings = ["core.fsmonitor", "core.pager", "pager.log", "gpg.program", "gpg.ssh.program", "core.sshCommand"]
    settings += ["core.askPass", "credential.helper", "diff.external", "core.editor", "alias.log", "core.gitProxy"]
    for name in settings:
        run_git(repository, "config", name, f"!{script}" if name == "alias.log" else str(script))
    for name, value in {
        "log.showSignature": "true",
        "log.diffMerges": "on",
        "color.ui": "always",
        "format.pretty": "x",
        "diff.x.textconv": str(script),
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{script}",
        "protocol.ext.allow": "always",
    }.items():
        run_git(repository, "config", name, value)
    (Path(repository) / ("info" if bare else ".git/info") / "attributes").write_text("* diff=x\n")
    hooks = Path(repository) / ("hooks" if bare else ".git/hooks")
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        (hooks / hook).write_text(script.read_text())
        (hooks / hook).chmod(0o755)
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    monkeypatch.setenv("GIT_PAGER", str(script))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    messages, _ = read(repository)
    assert len(messages) == 3 and not marker.exists()


def test_replaced_commits_are_read_as_they_are(tmp_path):
    repository = write_repository(tmp_path / "r", commits_of("ada", 2))
    run_git(repository, "replace", "HEAD", "HEAD~1")
    assert len(read(repository)[0]) == 2


def shallow(folder):
    write_repository(folder / "whole", commits_of("ada", 3))
    subprocess.run(["git", "clone", "-q", "--depth", "1", (folder / "whole").as_uri(), str(folder / "r")], check=True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: (folder / "r").mkdir(), "is no git repository; name the folder of a clone"),
        (lambda folder: (folder / "r").write_text("x"), "no such folder"),
        (lambda folder: subprocess.run(["git", "init", "-q", str(folder / "r")], check=True), "has no commits"),
        (shallow, "is a shallow clone, without its history; get it: git -C .* fetch --unshallow"),
    ],
)
def test_what_is_no_readable_repository_is_refused_in_one_line(tmp_path, make, said):
    make(tmp_path)
    with pytest.raises(DataError, match=said) as error:
        git.repository(tmp_path / "r")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another user")
def test_a_repository_of_another_user_is_refused_with_gits_remedy(tmp_path, monkeypatch):
    repository = write_repository(tmp_path / "r", commits_of("ada", 2))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (repository, repository / ".git"):
        os.chown(path, 54_321, 54_321)
    with pytest.raises(DataError, match="belongs to another user.*safe.directory"):
        git.repository(repository)


def test_a_damaged_repository_is_an_error_and_no_shorter_history(tmp_path):
    repository = write_repository(tmp_path / "r", commits_of("ada", 5))
    lost = run_git(repository, "rev-parse", "HEAD~3", text=True).stdout.strip()
    (repository / ".git/objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(DataError, match="git stopped reading .*; see `git fsck`"):
        read(repository)


def test_git_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="git is not installed"):
        git.repository(tmp_path)


def test_this_checkouts_own_history():
    try:
        messages, left_out = read(ROOT)
    except DataError as error:
        pytest.skip(f"not a whole checkout: {error}")
    assert messages and left_out["commits"] >= len(messages)
    for message in messages:
        for text in (message.subject, message.body):
            assert "\n" not in text and "@" not in text.split()[0] and "://" not in text
        assert "signed-off-by" not in message.body.lower()
