"""The JSON bodies of requests and replies, as JSON Schema (2020-12), by name.

Knows nothing of which operation has which.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dynamo.agreement import AntiEntropyStatus, RepairStatus, TreeRoots
from dynamo.keys import BUCKET_BYTES_MAX, TYPE_BYTES_MAX
from dynamo.requests import TTL_S_MAX
from dynamo.rpc.fault_rules import KINDS, LEGS, PARTS_MAX, PEERS_MAX, RULES_MAX
from dynamo.status import HintsStatus, NodeStatus, TombstonesStatus
from dynamo.wars_status import WarsStatus

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TEXTS: Final = {"type": "array", "items": _TEXT}


def _object(
    required: dict[str, Any], optional: dict[str, Any] | None = None, *, more: object = False
) -> dict[str, Any]:
    """`more`: the schema of members that are not named, True for any, False for none."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": more,
    }


def _short(longest: int, least: int = 0) -> dict[str, Any]:
    return {**_TEXT, "minLength": least, "maxLength": longest}


_SIBLING: Final = {
    **_object(
        {
            "vtag": _TEXT,
            "content_type": _TEXT,
            "last_modified": _TEXT,
        },
        {
            "content_encoding": _TEXT,
            "expires": {"description": "As X-Dynamo-Expires.", "type": "string"},
            "metadata": {
                "description": "Name and value of each X-Riak-Meta-*.",
                "type": "array",
                "items": {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2},
            },
            "value": {"description": "The value, if it is UTF-8.", "type": "string"},
            "value_base64": {
                "description": "The value, if it is not UTF-8.",
                "type": "string",
                "contentEncoding": "base64",
            },
        },
    ),
    "oneOf": [{"required": ["value"]}, {"required": ["value_base64"]}],
}

_ERROR: Final = _object(
    {
        "message": {"description": "For people.", "type": "string"},
        "code": {"description": "For programs; it does not change.", "type": "string"},
        "outcome": {
            "description": "none: nothing was done and nothing will be. unknown: it may have "
            "taken effect, or may yet.",
            "enum": ["none", "unknown"],
        },
        "request_id": _TEXT,
    },
    {
        "field": {"description": "What was out of range.", "type": "string"},
        "allowed": {"description": "What would do.", "anyOf": [_TEXT, _TEXTS]},
        "limit": _COUNT,
        "retry_after_s": _COUNT,
        "retry_after_ms": {"description": "Milliseconds after which to try again.", **_COUNT},
        "cap": {"enum": ["siblings", "record_bytes", "context_bytes"]},
        "siblings": {"type": "array", "items": {"$ref": "#/components/schemas/Sibling"}},
        "context": {"type": "string", "contentEncoding": "base64"},
        "required": {"description": "Nodes that were needed.", **_COUNT},
        "received": {
            "description": "Nodes that answered; if nobody was asked, those that could have been.",
            **_COUNT,
        },
        "primaries": {"description": "Those of them that are primaries.", **_COUNT},
        "primaries_required": {
            "description": "Primaries that were needed, if some were.",
            **_COUNT,
        },
        "fallbacks": {"description": "Those of them that stand in for primaries.", **_COUNT},
        "alive": {"description": "Primaries that are up.", **_COUNT},
        "reasons": {
            "description": "Why each node did not answer; of a node that is not ready, why not.",
            "anyOf": [{"type": "object", "additionalProperties": _TEXT}, _TEXTS],
        },
        "reason": _TEXT,
        "owners": {
            "description": "Members that keep the partition, by class.",
            "type": "object",
            "additionalProperties": _TEXTS,
        },
        "repair": {"$ref": "#/components/schemas/RepairStatus"},
        "ready": {"const": False},
        "undelivered": {
            "description": "By target: how many hints are left, and why.",
            "type": "object",
            "additionalProperties": _object({"hints": _COUNT, "state": _TEXT, "reason": _TEXT}),
        },
    },
    more=True,
)


def _names(noun: str) -> dict[str, Any]:
    """A part of a list; only the last says whether all parts together are complete."""
    return {
        "type": "object",
        "properties": {
            noun: _TEXTS,
            f"encoded_{noun}": {
                "description": "Names that are not UTF-8, percent-encoded.",
                **_TEXTS,
            },
            "complete": {
                "description": "Up to the cursor, every name is there whose write was "
                "acknowledged before the listing began, and that was not deleted.",
                "type": "boolean",
            },
            "cursor": {"description": "Where to go on.", "type": "string"},
        },
        "additionalProperties": False,
    }


def _properties() -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that can be given, and those that are there to read."""
    flag = {"type": "boolean"}
    settable: dict[str, Any] = {"n_val": {"description": "That of the bucket type.", **_COUNT}}
    settable |= dict.fromkeys(("allow_mult", "last_write_wins", "dvv_enabled"), flag)
    for name in ("r", "w", "pr", "pw", "dw", "rw", "node_confirms"):
        least = 1 if name in ("r", "w", "rw") else 0
        number = {"type": "integer", "minimum": least}
        settable[name] = {"anyOf": [number, {"enum": ["one", "quorum", "all", "default"]}]}
    settable |= dict.fromkeys(("notfound_ok", "basic_quorum"), flag)
    seconds = {"type": "integer", "minimum": 0, "maximum": TTL_S_MAX}
    settable["ttl"] = {
        "description": "Seconds after which what is written expires; 0 for never.",
        "anyOf": [seconds, {"const": "default"}],
    }
    names = {
        "name": {"description": "The bucket, if it is UTF-8.", "type": "string"},
        "encoded_name": {"description": "The bucket, if it is not UTF-8.", "type": "string"},
        "bucket_type": _TEXT,
    }
    given = {"props": _object({}, {**settable, **names})}
    return _object(given), _object({"props": _object(settable, names)})


_GIVEN, _SHOWN = _properties()

(
    (_STATUS, _HINTS, _TOMBSTONES, _WARS, _ANTIENTROPY, _REPAIR, _ROOTS),
    _PARTS_OF_STATUS,
) = msgspec.json.schema_components(
    [
        NodeStatus,
        HintsStatus,
        TombstonesStatus,
        WarsStatus,
        AntiEntropyStatus,
        RepairStatus,
        TreeRoots,
    ],
    ref_template="#/components/schemas/{name}",
)

#: Of a distribution: weight, kind, and one or two numbers.
_PART: Final = {
    "type": "array",
    "prefixItems": [{"type": "number", "exclusiveMinimum": 0}, {"enum": list(KINDS)}],
    "items": {"type": "number", "minimum": 0},
    "minItems": 3,
    "maxItems": 4,
}
_RULE: Final = _object(
    {},
    {
        "peers": {
            "description": "Ids of other members; none for all of them.",
            "type": "array",
            "items": _TEXT,
            "maxItems": PEERS_MAX,
        },
        "leg": {"enum": list(LEGS)},
        "delay": {"type": "array", "items": _PART, "minItems": 1, "maxItems": PARTS_MAX},
        "drop": {"type": "boolean"},
    },
)

SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "Error": _ERROR,
    "Sibling": _SIBLING,
    "Siblings": _object(
        {
            "siblings": {"type": "array", "items": {"$ref": "#/components/schemas/Sibling"}},
            "context": {"type": "string", "contentEncoding": "base64"},
        }
    ),
    "PropertiesGiven": _GIVEN,
    "Properties": _SHOWN,
    "Keys": _names("keys"),
    "Buckets": _names("buckets"),
    "Preflist": _object(
        {
            "preflist": {
                "type": "array",
                "items": _object(
                    {
                        "partition": _COUNT,
                        "node": _TEXT,
                        "primary": {"type": "boolean"},
                        "connected": {"type": "boolean"},
                    }
                ),
            }
        }
    ),
    "Stats": _object(
        {"riak_kv_version": {"description": "The dialect's.", "type": "string"}},
        {"ring_num_partitions": {"type": "integer", "minimum": 1}},
        more=True,
    ),
    "Status": {
        "allOf": [_STATUS, {"properties": {"version": _TEXT}, "required": ["version"]}],
    },
    "Hints": _HINTS,
    "HintsSynced": _object(
        {
            "synced": {"const": True},
            "delivered": {"type": "object", "additionalProperties": _COUNT},
        }
    ),
    "Tombstones": _TOMBSTONES,
    "Wars": _WARS,
    "AntiEntropy": _ANTIENTROPY,
    "Roots": _ROOTS,
    "Faults": _object(
        {
            "rules": {"type": "array", "items": _RULE},
            "cut": {"description": "Peers that this node is cut off from.", **_TEXTS},
            "held": {"description": "Messages that are held now.", **_COUNT},
            "held_max": _COUNT,
            "precise": {
                "description": "False where delays are whole milliseconds, for want of a timerfd.",
                "type": "boolean",
            },
        }
    ),
    "FaultsGiven": _object({"rules": {"type": "array", "items": _RULE, "maxItems": RULES_MAX}}),
    "PauseGiven": _object({}, {"reason": {"description": "For people.", **_short(200)}}),
    "Paused": _object({"paused": {"type": "boolean"}}),
    "Repair": _REPAIR,
    "RepairGiven": _object(
        {},
        {
            "partition": _COUNT,
            "type": _short(TYPE_BYTES_MAX, 1),
            "bucket": _short(BUCKET_BYTES_MAX, 1),
            "encoded_bucket": {
                "description": "In place of `bucket`, percent-encoded: one that is not UTF-8.",
                **_short(3 * BUCKET_BYTES_MAX, 1),
            },
            "peer": _short(255, 1),
        },
    ),
    **_PARTS_OF_STATUS,
    "Live": _object({"live": {"const": True}}),
    "Ready": _object({"ready": {"const": True}, "reasons": {**_TEXTS, "maxItems": 0}}),
    "Resources": {"type": "object", "additionalProperties": _TEXT},
    "OpenApi": _object({"openapi": _TEXT, "info": {"type": "object"}}, more=True),
}
