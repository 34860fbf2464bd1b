"""Conditional requests (RFC 9110, 13): read from headers, and judged for GET and HEAD.

The condition of a write is judged by the replica that mints it; here it is only read.
If-Modified-Since has no meaning on a write and is ignored there. Knows nothing of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from dynamo.errors import InvalidArgument
from dynamo.http.dates import parse_date
from dynamo.rpc.messages import Condition

ETAGS_MAX: Final = 100
ANY: Final = ("*",)


def is_conditional(headers: Mapping[str, str]) -> bool:
    """True if any of the four conditional headers is there."""
    return (
        hdrs.IF_NONE_MATCH in headers
        or hdrs.IF_MATCH in headers
        or hdrs.IF_MODIFIED_SINCE in headers
        or hdrs.IF_UNMODIFIED_SINCE in headers
    )


def read_condition(headers: CIMultiDictProxy[str]) -> Condition | None:
    """The condition of a write, None if there is none. Raises InvalidArgument."""
    if_match = _etags(headers, hdrs.IF_MATCH)
    if_none_match = _etags(headers, hdrs.IF_NONE_MATCH)
    unmodified_since = _date(headers, hdrs.IF_UNMODIFIED_SINCE)
    # If-Match is the finer of the two and overrides the date (RFC 9110, 13.2.2).
    since_ms = 0 if unmodified_since is None or if_match else max(1, unmodified_since * 1000)
    if not (if_match or if_none_match or since_ms):
        return None
    return Condition(if_match, if_none_match, since_ms)


def judge_read(
    headers: CIMultiDictProxy[str], etag: str, modified_s: int
) -> Literal[200, 304, 412]:
    """The status for what a GET found, whose ETag and last change these are.

    In the order of RFC 9110, 13.2.2. Raises InvalidArgument.
    """
    if_match = _etags(headers, hdrs.IF_MATCH)
    unmodified_since = _date(headers, hdrs.IF_UNMODIFIED_SINCE)
    if_none_match = _etags(headers, hdrs.IF_NONE_MATCH)
    modified_since = _date(headers, hdrs.IF_MODIFIED_SINCE)
    if if_match:
        if if_match != ANY and etag not in if_match:
            return 412
    elif unmodified_since is not None and modified_s > unmodified_since:
        return 412
    if if_none_match:
        if if_none_match == ANY or etag in if_none_match:
            return 304
    elif modified_since is not None and modified_s <= modified_since:
        return 304
    return 200


def _date(headers: CIMultiDictProxy[str], name: str) -> int | None:
    values = headers.getall(name, None)
    if values is None:
        return None
    if len(values) > 1:
        raise InvalidArgument(f"{name} is given twice", field=name, allowed="once")
    return parse_date(values[0], name)


def _etags(headers: CIMultiDictProxy[str], name: str) -> tuple[str, ...]:
    values = headers.getall(name, None)
    if values is None:
        return ()
    text = ", ".join(values)
    if text.strip() == "*":
        return ANY
    etags = _split_etags(text, weak_counts=name == hdrs.IF_NONE_MATCH)
    if etags is None:
        raise InvalidArgument(
            f"{name} is not a list of quoted entity tags", field=name, allowed='*, "tag", "tag"'
        )
    if len(etags) > ETAGS_MAX:
        raise InvalidArgument(f"{name} names too many tags", field=name, allowed=f"{ETAGS_MAX}")
    return etags


def _split_etags(text: str, *, weak_counts: bool) -> tuple[str, ...] | None:
    """The opaque tags of a list, None if it is malformed.

    If-None-Match compares weakly, so W/ is dropped. If-Match compares strongly, so a weak tag
    matches nothing: it is kept with its W/, which no tag of ours has.
    """
    if not text.isascii():
        return None
    etags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t":
            at += 1
        weak = text.startswith('W/"', at)
        if weak:
            at += 2
        if not text.startswith('"', at):
            return None
        end = text.find('"', at + 1)
        if end < 0:
            return None
        tag = text[at + 1 : end]
        if any(not "!" <= letter <= "~" for letter in tag):
            return None
        if tag == "*":
            tag = '"*"'  # a tag like any other, not the star that means "any"
        etags.append("W/" + tag if weak and not weak_counts else tag)
        at = end + 1
        while at < len(text) and text[at] in " \t":
            at += 1
        if at == len(text):
            return tuple(etags)
        if text[at] != ",":
            return None
        at += 1
