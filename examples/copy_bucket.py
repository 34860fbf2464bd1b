"""Copy a bucket into an empty one of another cluster: properties, values, siblings, metadata.

python examples/copy_bucket.py http://10.0.0.1:8098 http://127.0.0.1:8098 carts
"""

import json
import sys
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

OLD, NEW = (HTTPConnection(urlsplit(node).netloc, timeout=60) for node in sys.argv[1:3])
BUCKET = f"/buckets/{quote(sys.argv[3], safe='')}"
Answer = tuple[int, dict[str, str], bytes]
KEPT = ("content-type", "content-encoding", "x-riak-meta-")  # the headers that are of a value


def ask(node: HTTPConnection, path: str, put: bytes | None = None, **fields: str) -> Answer:
    node.request("GET" if put is None else "PUT", BUCKET + path, put, fields)
    reply = node.getresponse()
    body = reply.read()
    if reply.status >= 400 and reply.status != 404:
        sys.exit(f"{path}: {reply.status} {body.decode()}")
    return reply.status, {k: v for k, v in reply.getheaders() if k.lower().startswith(KEPT)}, body


props = json.loads(ask(OLD, "/props")[2])
del props["props"]["name"], props["props"]["n_val"]
ask(NEW, "/props", json.dumps(props).encode(), **{"Content-Type": "application/json"})
listed = json.loads(ask(OLD, "/keys?keys=true")[2])
if not listed["complete"]:
    sys.exit("not all keys of the old bucket can be listed now")
keys = [*(quote(key, safe="") for key in listed["keys"]), *listed.get("encoded_keys", ())]
for key in keys:
    found = [ask(OLD, f"/keys/{key}")]
    if found[0][0] == 300:  # siblings, named a line each: they stay siblings
        found = [ask(OLD, f"/keys/{key}?vtag={v}") for v in found[0][2].decode().split()[1:]]
    for _, fields, value in (each for each in found if each[0] == 200):  # not deleted meanwhile
        ask(NEW, f"/keys/{key}", value, **fields)
print(f"{len(keys)} keys copied")
