"""What every profile store does."""

import copy
from datetime import UTC, date, datetime

import pytest

from r2p_dspy import ConfigError, Item, Profile
from r2p_dspy.stores.protocol import ProfileStore

FILMS = [
    {"id": "m1", "description": "A diver finds love.", "tag": "romance", "label": "romance", "date": "2024-05-01"},
    {"id": "m2", "description": "Räuber im Café 東京", "label": "crime", "date": "2023"},
    {"id": "m3", "description": "Zeile eins\nZeile zwei \x00 \ud83d", "date": "2024-05-02T10:00:00+02:00"},
]


def ids(profile):
    return [item.id for item in profile]


def few(monkeypatch, candidates):
    """Let a long history have so few candidates."""
    for name in ("candidates.MOST", "sql.NEWEST"):
        monkeypatch.setattr(f"r2p_dspy.stores.{name}", candidates)


def notes(count, start=0):
    return [{"id": str(number), "text": f"note {number}"} for number in range(start, start + count)]


def test_a_store_keeps_items_as_they_are(store):
    assert isinstance(store, ProfileStore)
    assert store.append("ada", FILMS) == ["m1", "m2", "m3"]
    assert store.get("ada").items == Profile.of(FILMS).items
    assert store.get("bob") == Profile()


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, ["m1", "m2", "m3"]),
        ({"limit": 2}, ["m1", "m3"]),  # the newest by date, in the order in which they were appended
        ({"limit": 0}, []),
        ({"limit": 9}, ["m1", "m2", "m3"]),
        ({"since": "2024-05-01"}, ["m1", "m3"]),
        ({"since": "2024-05-02T08:00:00Z"}, ["m3"]),
        ({"since": datetime(2024, 5, 2, 8, 0, 1, tzinfo=UTC)}, []),
        ({"since": date(2023, 1, 1), "limit": 1}, ["m3"]),
        ({"since": "2023"}, ["m1", "m2", "m3"]),
    ],
)
def test_get_takes_the_newest(store, options, expected):
    store.append("ada", FILMS)
    assert ids(store.get("ada", **options)) == expected


def test_an_item_without_a_date_is_of_the_time_of_its_append(store):
    store.append("ada", [{"id": "1", "text": "undated"}, {"id": "2", "text": "old", "date": "1999"}])
    assert ids(store.get("ada", since="2020")) == ["1"]
    assert store.expire("2000") == 1
    assert ids(store.get("ada")) == ["1"]


@pytest.mark.parametrize("user", ["ada", 7, 7.0, "名前", "a'; DROP TABLE r2p_items; --", "x" * 500])
def test_users_have_any_name(store, user):
    store.append(user, ["Rain in May."])
    assert len(store.get(user)) == 1
    assert store.delete_user(user) == 1


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda store: store.get(None), "a user's name is a text of 1 to 500 characters, not 'None'"),
        (lambda store: store.get("  "), "a user's name"),
        (lambda store: store.append("x" * 501, []) or store.get("x" * 501), "a user's name"),
        (lambda store: store.get("a\x00b"), "a user's name"),
        (lambda store: store.get("ada", limit=-1), "limit is a number of items"),
        (lambda store: store.get("ada", since="5/1/2024"), "since: '5/1/2024' cannot be read as a date"),
        (lambda store: store.get("ada", since="soon"), "since is a date such as 2024-05-01, not 'soon'"),
        (lambda store: store.expire("soon"), "before is a date"),
        (lambda store: store.append("ada", 7), "a history is a list of items"),
        (lambda store: store.append("ada", [{"id": "1", "text": "x", "date": "5/1/2024"}]), "item '1': its date"),
        (lambda store: store.append("ada", [{"id": "1", "text": "x", "date": "2024-02-31"}]), "item '1': its date"),
        (lambda store: store.append("ada", [{"id": "\x00", "text": "x"}]), "an item's id"),
        (lambda store: store.update("ada", [{"id": "m9", "text": "x"}]), "user 'ada' has no item 'm9' to update"),
        (lambda store: store.append("ada", [{"id": "m1", "text": "x"}]), "user 'ada' has another item 'm1' already"),
    ],
)
def test_what_cannot_be_kept_is_refused_whole(store, call, message):
    store.append("ada", FILMS)
    version = store.version("ada")
    with pytest.raises(ConfigError, match=message):
        call(store)
    assert store.version("ada") == version
    assert store.get("ada").items == Profile.of(FILMS).items


def test_an_append_may_be_repeated(store):
    store.append("ada", FILMS)
    version = store.version("ada")
    store.append("ada", FILMS)
    assert store.version("ada") == version
    store.append("ada", [*FILMS, {"id": "m4", "text": "new"}])
    assert ids(store.get("ada")) == ["m1", "m2", "m3", "m4"]


def test_entries_without_an_id_get_one_that_nobody_has(store):
    first, second = (
        store.append("ada", ["rain", {"text": "sea"}]),
        store.append("ada", ["rain", None, Item(id="1", text="x")]),
    )
    assert len({*first, *second}) == 4
    assert ids(store.get("ada")) == [*first, *second]


@pytest.mark.parametrize("items", [[], None, [None], ""])
def test_nothing_makes_no_user(store, items):
    assert store.append("ada", items) == []
    assert store.version("ada") == ""


def test_versions_change_with_each_change_and_never_return(store):
    versions = [store.version("ada")]
    for change in (
        lambda: store.append("ada", FILMS),
        lambda: store.append("ada", [{"id": "m4", "text": "new"}]),
        lambda: store.update("ada", [{"id": "m4", "text": "newer"}]),
        lambda: store.expire("2024"),
        lambda: store.delete_user("ada"),
        lambda: store.append("ada", FILMS),
    ):
        change()
        versions.append(store.version("ada"))
    assert versions[0] == versions[5] == ""
    assert len({*versions}) == len(versions) - 1
    assert store.version("bob") == ""


def test_update_replaces_items_where_they_stand(store):
    store.append("ada", FILMS)
    store.update("ada", [{"id": "m2", "description": "Another film.", "date": "2025"}])
    assert [(item.id, item.text) for item in store.get("ada")][1] == ("m2", "Another film.")
    assert ids(store.get("ada", limit=1)) == ["m2"]


def test_expire_deletes_for_one_user_or_all(store):
    for user in ("ada", "bob"):
        store.append(user, FILMS)
    assert store.expire("2024", user="ada") == 1
    assert (ids(store.get("ada")), ids(store.get("bob"))) == (["m1", "m3"], ["m1", "m2", "m3"])
    assert store.expire("2024-05-02") == 3
    assert (ids(store.get("ada")), ids(store.get("bob"))) == (["m3"], ["m3"])


def test_delete_user_deletes_that_user_alone(store):
    for user in ("ada", "bob"):
        store.append(user, [*FILMS, *notes(30)])
    assert store.delete_user("ada") == 33
    assert (store.delete_user("ada"), store.version("ada"), len(store.get("ada"))) == (0, "", 0)
    assert ids(store.get("bob")) == ids([*Profile.of(FILMS), *Profile.of(notes(30))])
    assert "17" in ids(store.read("bob", "note 17").items)


def test_a_reader_gets_what_was_appended_since(store):
    store.append("ada", notes(3))
    first = store.read("ada")
    assert (first.scope, ids(first.items), first.size) == ("whole", ["0", "1", "2"], 3)
    same = store.read("ada", known=first.version)
    assert (same.scope, ids(same.items), same.version) == ("appended", [], first.version)
    store.append("ada", notes(2, start=3))
    grown = store.read("ada", known=first.version)
    assert (grown.scope, ids(grown.items), grown.size) == ("appended", ["3", "4"], 5)
    store.update("ada", [{"id": "0", "text": "changed"}])
    assert store.read("ada", known=grown.version).scope == "whole"
    store.delete_user("ada")
    gone = store.read("ada", known=grown.version)
    assert (gone.version, gone.scope, gone.size) == ("", "whole", 0)


TEXTS = {
    "plain": "the quick brown fox",
    "accents": "un CAFÉ à Zürich",
    "decomposed": "cafe\u0301 noir",
    "japanese": "東京タワーに登った",
    "chinese": "北京烤鸭很好吃",
    "korean": "고양이를 좋아해요",
    "thai": "แมวกินปลา",
    "emoji": "party 🎉",
}


@pytest.mark.parametrize(
    "query, expected",
    [
        ("FOX", "plain"),
        ("zurich Zürich", "accents"),
        ("café", "accents"),
        ("CAFÉ", "decomposed"),
        ("東京", "japanese"),
        ("タワー", "japanese"),
        ("烤鸭", "chinese"),
        ("고양이", "korean"),
        ("แมว", "thai"),
        ("🎉", "emoji"),
    ],
)
def test_candidates_of_a_long_history_are_found_by_words_of_any_script(store, query, expected, monkeypatch):
    few(monkeypatch, 3)
    store.append("ada", [{"id": name, "text": text} for name, text in TEXTS.items()])
    store.append("bob", [{"id": name, "text": text} for name, text in TEXTS.items()])
    store.append("ada", notes(300))
    reading = store.read("ada", query)
    assert (reading.scope, reading.size) == ("candidates", 300 + len(TEXTS))
    assert expected in ids(reading.items)
    assert ids(reading.items)[-3:] == ["297", "298", "299"], "the newest, too"


def test_rare_words_of_a_query_count_more(store, monkeypatch):
    few(monkeypatch, 2)
    store.append("ada", [{"id": "rare", "text": "a lighthouse"}, *notes(300), *notes(300, start=300)])
    assert ids(store.read("ada", "a note about a lighthouse note").items)[0] == "rare"


def test_the_index_follows_changes(store, monkeypatch):
    few(monkeypatch, 1)
    store.append("ada", [{"id": "a", "text": "a lighthouse", "date": "1999"}, *notes(30)])
    assert "a" in ids(store.read("ada", "lighthouse").items)
    store.update("ada", [{"id": "a", "text": "a windmill", "date": "1999"}])
    assert "a" in ids(store.read("ada", "windmill").items)
    assert "a" not in ids(store.read("ada", "lighthouse").items)
    store.expire("2000")
    assert "a" not in ids(store.read("ada", "windmill").items)


def test_load_appends_many_histories(store):
    histories = [(f"user {number}", notes(7)) for number in range(800)]  # more than a transaction
    assert store.load(iter(histories)) == 5600
    assert store.load(histories) == 0, "it may be repeated"
    assert ids(store.get("user 799")) == ids(Profile.of(notes(7)))


def test_a_copy_is_the_store_itself(store):
    assert copy.deepcopy({"store": store})["store"] is store
