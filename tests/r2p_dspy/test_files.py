"""Atomic writes and digests."""

import errno
import hashlib
from pathlib import Path

import pytest

from r2p_dspy.files import atomic_path, digest, read_bounded, write_atomic


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


def test_file_is_read_whole_up_to_a_size(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than") as caught:
        read_bounded(path, 4)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    with pytest.raises(OSError, match="larger than"):
        read_bounded(Path("/dev/zero"), 1 << 20)
