"""Which replicas are behind what their answers say together.

Digests are opaque bytes, equal if and only if the records are; b"" is a replica that has none.
Knows nothing of records, of how they merge, or of how a repair is sent.
"""

from __future__ import annotations

from collections.abc import Mapping


def stale(answers: Mapping[str, bytes], merged: bytes) -> tuple[str, ...]:
    """The nodes to repair, sorted by id (Dynamo 5.2, read repair).

    `answers`: node id -> digest of its record. `merged`: digest of the merge of *all* of them. The
    merge has seen all that any of them has, so a replica whose digest differs from it lacks
    something, and none is ever ahead. An answer whose record is not in the merge must not be here.
    """
    return tuple(sorted([node for node, digest in answers.items() if digest != merged]))
