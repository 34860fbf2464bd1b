"""`/admin/faults`: what is done to the node's messages on purpose, where it was started to allow it.

Knows nothing of how messages are delayed or what a rule says.
"""

from __future__ import annotations

from dynamo.errors import InvalidArgument
from dynamo.http.json_body import read_json, refuse_others
from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request


async def get_faults(request: Request) -> HttpReply:
    """GET, HEAD: 200 with the rules in force; 403 of a node that was not started so."""
    return json_reply(200, request.edge.backend.faults())


async def put_faults(request: Request) -> HttpReply:
    """PUT: 200, these rules are in force and none of those before."""
    request.edge.backend.faults()  # who may not is told so, whatever he sends
    body = await read_json(request, "rules")
    refuse_others(body, ("rules",))
    if "rules" not in body:
        raise InvalidArgument("there are no rules", field="rules", allowed="a list of rules")
    return json_reply(200, request.edge.backend.set_faults(body["rules"]))


async def delete_faults(request: Request) -> HttpReply:
    """DELETE: 200, no rule is in force."""
    return json_reply(200, request.edge.backend.set_faults([]))
