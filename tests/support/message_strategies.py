"""Hypothesis strategies for all messages between nodes, made from their types: what is added to one, or
to all of them, is drawn as well.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect
from record_strategies import any_vectors

from dynamo.rpc.messages import Reply, Request
from dynamo.version import Vector, birth_bytes, incarnation_bytes

KINDS: tuple[type[Any], ...] = (*get_args(Request), *get_args(Reply))
#: Fields that codec checks beyond their type.
_VECTORS = ("context", "vector", "unmodified")
_BIRTH = birth_bytes(incarnation_bytes(1, b"12345678"), 1)
#: Most that is drawn of what may be long.
_LONG = 5
_INT64_MAX = (1 << 63) - 1

#: Anything that msgpack can say.
any_object = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=20,
)


def messages_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Valid messages of this class."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return _of(described)


def any_messages() -> st.SearchStrategy[Any]:
    """Valid messages of all classes, requests and replies."""
    return st.one_of(*map(messages_of, KINDS))


def _of(type_: inspect.Type, name: str = "") -> st.SearchStrategy[Any]:
    if name in _VECTORS:
        return _vectors()
    match type_:
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(
                cls, **{field.name: _of(field.type, field.encode_name) for field in fields}
            )
        case inspect.IntType(ge=ge, le=le, gt=gt, lt=lt):
            least = ge if ge is not None else gt + 1 if gt is not None else -_INT64_MAX
            most = le if le is not None else lt - 1 if lt is not None else _INT64_MAX
            return st.integers(least, most) | st.sampled_from((least, most))
        case inspect.BytesType(min_length=least, max_length=most):
            if name == "birth":
                return st.just(_BIRTH)
            return st.binary(min_size=least or 0, max_size=_at_most(least, most))
        case inspect.StrType(min_length=least, max_length=most):
            return st.text(min_size=least or 0, max_size=_at_most(least, most))
        case inspect.VarTupleType(item_type=item, min_length=least, max_length=most):
            many = st.lists(_of(item), min_size=least or 0, max_size=_at_most(least, most))
            return many.map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(_of, items))
        case inspect.UnionType(types=types):
            return st.one_of(*map(_of, types))
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.FloatType():
            return st.floats(allow_nan=False)
    raise AssertionError(f"no strategy for {type_}")


def _vectors() -> st.SearchStrategy[Vector]:
    return any_vectors()


def _at_most(least: int | None, most: int | None) -> int:
    return max(least or 0, min(_LONG, _LONG if most is None else most))


#: Made once: that takes longer than to draw from it.
_encoded_message = any_messages().map(msgspec.msgpack.encode)


@st.composite
def nearly(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """The msgpack of `good`, an array, of which one field, however deep, is something else; or a few
    bytes are."""
    encoded = draw(good)
    how = draw(st.sampled_from(("field", "field", "bytes", "cut", "add")))
    if how == "field":
        parts = msgspec.msgpack.decode(encoded)
        where = parts
        while True:
            if not where:
                return encoded
            at = draw(st.integers(0, len(where) - 1))
            if not isinstance(where[at], list) or draw(st.booleans()):
                where[at] = draw(any_object)
                return msgspec.msgpack.encode(parts)
            where = where[at]
    altered = bytearray(encoded)
    at = draw(st.integers(0, len(altered) - 1))
    if how == "bytes":
        altered[at : at + 1] = draw(st.binary(max_size=6))
    elif how == "cut":
        del altered[at:]
    else:
        altered += draw(st.binary(min_size=1, max_size=6))
    return bytes(altered)


def nearly_messages() -> st.SearchStrategy[bytes]:
    """`nearly` of the messages of all classes."""
    return nearly(_encoded_message)
