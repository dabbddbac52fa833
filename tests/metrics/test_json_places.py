"""JSON Pointers resolve as their standard says."""

from __future__ import annotations

import pytest

from evalkit.metrics.json_places import MISSING, parse_pointer, pointer_text, resolve

# RFC 6901, section 5: the example document and its pointers.
RFC_6901 = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", RFC_6901),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        ("/foo/2", MISSING),
        ("/foo/00", MISSING),
        ("/foo/-1", MISSING),
        ("/foo/0/x", MISSING),
        ("/nowhere", MISSING),
    ],
)
def test_pointers_resolve_as_rfc_6901_says(pointer, value):
    path = parse_pointer(pointer)
    assert resolve(RFC_6901, path) is value or resolve(RFC_6901, path) == value
    assert pointer_text(path) == pointer


def test_escapes_are_undone_in_the_order_of_the_standard():
    # RFC 6901, section 4: "~01" correctly becomes "~1" after transformation
    assert parse_pointer("/~01") == ("~1",)
