"""Deleted texts are in no file of a SQLite store, while it is open and after it was closed."""

import sqlite3

import pytest

from r2p_dspy import StoreError
from r2p_dspy.stores import SQLite

SECRETS = ["xylophone", "Quetzalcoatl", "東京タワー", "naïveté"]


def texts_in(directory):
    """The secrets that stand in any file of a directory, in the encodings that a database may choose."""
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    forms = {secret: [secret.encode(), secret.lower().encode(), secret.encode("utf-16-le")] for secret in SECRETS}
    return [secret for secret, encoded in forms.items() if any(form in content for form in encoded)]


def filled(directory, items):
    """A store in which a user's items lie between those of others, some of them in pages of their own."""
    store = SQLite(directory / "histories.sqlite", whole=20)
    for start in range(0, items, 10):
        secrets = [
            {
                "id": f"{secret}-{number}",
                "text": f"{secret} {number} " * (300 if number % 7 == 0 else 1),
                "label": secret,
            }
            for number in range(start, start + 10)
            for secret in SECRETS
        ]
        store.append("ada", secrets)
        store.append(f"other {start}", [{"id": str(number), "text": f"common words {number}"} for number in range(30)])
    return store


@pytest.mark.parametrize("items", [10, 200])
@pytest.mark.parametrize("closed", [False, True])
def test_no_byte_of_a_deleted_user_is_left(tmp_path, items, closed):
    store = filled(tmp_path, items)
    assert texts_in(tmp_path) == SECRETS
    store.delete_user("ada")
    if closed:
        store.close()
    assert texts_in(tmp_path) == []
    assert len(SQLite(tmp_path / "histories.sqlite").get("other 0")) == 30


def test_no_byte_of_an_expired_item_is_left(tmp_path):
    store = filled(tmp_path, 200)
    assert store.expire("2999", user="ada") == 800
    assert texts_in(tmp_path) == []


def test_several_users_are_deleted_at_once(tmp_path):
    store = filled(tmp_path, 20)
    assert store.delete_user("ada", "other 0", "nobody") == 110
    assert texts_in(tmp_path) == []


def test_what_a_killed_process_deleted_is_overwritten_by_the_next_deletion(tmp_path, monkeypatch):
    store = filled(tmp_path, 200)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(store, "_overwrite", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        store.delete_user("ada")
    assert texts_in(tmp_path)
    assert SQLite(store.path).delete_user("nobody") == 0
    assert texts_in(tmp_path) == []


def test_the_index_holds_no_word_of_a_text(tmp_path):
    store = filled(tmp_path, 200)
    with sqlite3.connect(store.path) as connection:
        stored = connection.execute("SELECT block FROM r2p_words_data").fetchall()
    content = b"".join(block for (block,) in stored)
    assert content and not any(secret.lower().encode() in content for secret in SECRETS)


def test_a_reader_in_the_way_is_named_and_the_deletion_repeated(tmp_path):
    store = filled(tmp_path, 10)
    reader = SQLite(store.path)
    impatient = SQLite(store.path, timeout=0.2)
    with reader._reading() as db:
        db.execute("SELECT count(*) FROM r2p_items")
        with pytest.raises(StoreError, match="still in the files, since another process reads it; delete again"):
            impatient.delete_user("ada")
    assert impatient.delete_user("ada") == 0
    assert texts_in(tmp_path) == []
