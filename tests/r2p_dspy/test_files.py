"""Atomic writes and digests."""

import hashlib

import pytest

from r2p_dspy.files import atomic_path, digest, write_atomic


def test_failed_write_keeps_only_the_old_file(tmp_path):
    target = tmp_path / "report.json"
    write_atomic(target, "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_directory_replaces_directory(tmp_path):
    target = tmp_path / "model"
    (tmp_path / ".model.part").mkdir()  # of a killed run
    (tmp_path / ".model.part" / "stale").touch()
    for name in ("first", "second"):
        with atomic_path(target) as part:
            part.mkdir()
            (part / name).touch()
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_half_characters_are_escaped(tmp_path):
    write_atomic(tmp_path / "a", "é\ud800")
    assert (tmp_path / "a").read_bytes() == "é".encode() + b"\\ud800"


@pytest.mark.parametrize("content", [b"", b"rain", bytes(range(256)) * 5000], ids=["empty", "short", "many chunks"])
def test_digest_is_the_start_of_sha256(content, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()[:16]
    assert digest(content) == digest(file) == digest([content[:3], content[3:]]) == expected
