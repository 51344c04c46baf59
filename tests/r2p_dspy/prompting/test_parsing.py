"""In which order a completion's fields were written, whatever the adapter."""

import pytest

from r2p_dspy.prompting.parsing import written_order


@pytest.mark.parametrize(
    ("why", "text", "order"),
    [
        ("chat", "[[ ## b ## ]]\n1\n\n[[ ## a ## ]]\n2", "ba"),
        ("json", '{"b": 1, "a": 2}', "ba"),
        ("json with spaces", '{\n  "a" : 1,\n  "b":2}', "ab"),
        ("xml", "<b>1</b>\n<a>2</a>", "ba"),
        ("xml within xml", "<b><a>1</a></b><a>2</a>", "ba"),
        ("xml of the same name inside", "<b><b>1</b></b>\n<a><b>2</b></a>", "ba"),
        ("an empty list in xml", "<b />\n<a>2</a>", "ba"),
        ("only inside another in xml", "<b><a>1</a></b>", "b"),
        ("a field that is not there", "[[ ## b ## ]]\n1", "b"),
        ("none", "b, then a", ""),
        ("nothing", "", ""),
        ("the first of two counts", "[[ ## b ## ]]\n[[ ## a ## ]]\n[[ ## b ## ]]", "ba"),
        ("other fields do not", "[[ ## bb ## ]]\n[[ ## a ## ]]\n[[ ## b ## ]]", "ab"),
        ("a marker within a line is text, as to the adapter", "[[ ## b ## ]]\nfirst [[ ## a ## ]]", "b"),
        ("a value that looks like JSON", '[[ ## a ## ]]\n[{"b": 1}]\n[[ ## b ## ]]', "ab"),
        ("a value that speaks of JSON", '[[ ## b ## ]]\nwrite "a": 1\n[[ ## b ## ]]', "b"),
        ("a value that looks like a tag", '{"b": "<a>", "a": 1}', "ba"),
        ("a value in XML that looks like JSON", '<b>"a": 1</b><a>2</a>', "ba"),
    ],
)
def test_written_order(why, text, order):
    assert written_order(text, {"a": "a", "b": "b"}) == tuple(order)
    renamed = written_order(text, {"A": "a", "B": "b"})
    assert renamed == tuple(order.upper()), "told by what the fields are to the program"
