"""JSON from outside: what is refused, by the name of the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.errors import InvalidArgument
from dynamo.http.strict_json import DEPTH_MAX, JSON_BYTES_MAX, read_object

DEEP = b'{"props":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NESTED = b'{"props":' + b'{"a":' * 15 + b"1" + b"}" * 16

BAD = {
    "NaN": (b'{"props":{"r":NaN}}', "r"),
    "Infinity": (b'{"props":{"r":[1,Infinity]}}', "r"),
    "-Infinity": (b'{"r":-Infinity}', "r"),
    "a number over all bounds": (b'{"r":1e400}', "r"),
    "an integer of 5,000 digits": (b'{"props":{"n_val":' + b"9" * 5000 + b"}}", "n_val"),
    "the same, negative": (b'{"n_val":-' + b"9" * 5000 + b"}", "n_val"),
    "a key twice": (b'{"props":{"w":1,"r":2,"w":3}}', "w"),
    "a key thrice, in a list": (b'{"a":[{"w":1,"w":2,"w":3}]}', "w"),
    "the same key, once escaped": (b'{"w":1,"\\u0077":2}', "w"),
    "a lone surrogate as value": (b'{"r":"\\ud800"}', "r"),
    "a lone surrogate in a list": (b'{"r":["a","\\udfff"]}', "r"),
    "a lone surrogate as key": (b'{"props":{"\\ud800":1}}', "props"),
    "a lone surrogate in UTF-8": (b'{"r":"\xed\xa0\x80"}', "body"),
    "UTF-16": ('{"r":1}'.encode("utf-16"), "body"),
    "UTF-16 without its mark": ('{"r":1}'.encode("utf-16-le"), "body"),
    "UTF-32": ('{"r":1}'.encode("utf-32-be"), "body"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "body"),
    "Latin-1": ('{"r":"é"}'.encode("latin-1"), "body"),
    "100,000 deep": (DEEP, "body"),
    "a little too deep": (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "body"),
    "unbalanced and deep": (b"[" * 30_000, "body"),
    "over 64 KiB": (b'{"a":"' + b"x" * JSON_BYTES_MAX + b'"}', "body"),
    "nothing": (b"", "body"),
    "two values": (b"{} {}", "body"),
    "cut off": (b'{"r":', "body"),
    "a list": (b"[]", "body"),
    "null": (b"null", "body"),
    "a comment": (b'{"r":1/*x*/}', "body"),
    "a comma too many": (b'{"r":1,}', "body"),
    "single quotes": (b"{'r':1}", "body"),
    "a bare control character": (b'{"r":"\n"}', "body"),
    "a leading zero": (b'{"r":01}', "body"),
    "NUL": (b"\0", "body"),
}


@pytest.mark.parametrize(("data", "field"), BAD.values(), ids=BAD)
def test_what_is_not_strict_json_is_refused_by_name(data: bytes, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_object(data)
    assert caught.value.details["field"] == field
    assert len(caught.value.message) < 200
    assert caught.value.message.isascii()


def test_what_is_strict_json_is_read() -> None:
    data = b' {"a": {"b": [1, -2.5, true, null, "\\ud83d\\ude00 \xc3\xa9"]}, "": 18446744073709551615}\n'
    assert read_object(data) == {
        "a": {"b": [1, -2.5, True, None, "😀 é"]},
        "": 18446744073709551615,
    }
    assert read_object(NESTED)["props"]
    assert read_object(b'{"a":"' + b"[" * 1000 + b'\\""}') == {"a": "[" * 1000 + '"'}


_json: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**19), 10**19)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=5), _json, max_size=5))
def test_whatever_json_says_is_read_as_it_is_said_or_refused(value: dict[str, Any]) -> None:
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        read = read_object(data)
    except InvalidArgument:
        return
    assert read == value


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='{}[]",:\\ud8e019-.NaInfity \n', max_size=200).map(str.encode),
    )
)
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    try:
        assert isinstance(read_object(data), dict)
    except InvalidArgument:
        return
