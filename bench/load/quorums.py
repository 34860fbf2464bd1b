"""How many answers a bucket asks for, where an operation says nothing itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from bench.scenario import BadScenario
from dynamo.errors import InvalidArgument
from dynamo.quorum import resolve_count
from dynamo.requests import Count


def asked_of(properties: Mapping[str, object], name: Literal["r", "w"], replicas: int) -> int:
    """How many answers a bucket with these properties asks for. Raises BadScenario."""
    asked = cast(Count, properties.get(name, "default"))
    try:
        return resolve_count(name, asked, replicas, lowest=1, default=replicas // 2 + 1)
    except InvalidArgument as error:
        raise BadScenario(f"cluster: properties: {error}") from None
