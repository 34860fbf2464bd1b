"""How Schemathesis is to read a listing that is streamed: several JSON objects, one after the other.

Loaded by its process (SCHEMATHESIS_HOOKS). All but a stream has to be one JSON value.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import schemathesis


@schemathesis.deserializer("application/json")
def read_json(context: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """The value; of a stream the last object, once all are read."""
    query = parse_qs(urlsplit(str(response.request.url)).query)
    if "stream" not in (*query.get("keys", ()), *query.get("buckets", ())):
        return response.json()
    text = response.content.decode("ascii")
    decoder = json.JSONDecoder()
    value, end = decoder.raw_decode(text)
    while end < len(text):
        value, end = decoder.raw_decode(text, end)
    return value
