"""Writes survive a dead node: five of them on this machine, kill -9 of one, and it has them after all.

python examples/dead_node.py [PORT]    # takes ten ports from PORT on (default: 9098)
"""

import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from http.client import HTTPConnection
from signal import SIGINT
from subprocess import DEVNULL, PIPE, Popen, run

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9098
KEYS = [f"/buckets/carts/keys/{number}" for number in range(100)]
FLAGS = f"cluster --nodes 5 --http-port {PORT} --rpc-port {PORT + 5} --json --data-dir"
CLUSTER = [sys.executable, "-m", "dynamo", *FLAGS.split()]


def ask(url: str, method: str, path: str, body: bytes | None = None) -> str:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request(method, path, body, {"Content-Type": "text/plain"})
    reply = connection.getresponse()
    return f"{reply.status} {reply.headers.get('X-Dynamo-Acks') or reply.read().decode()}"


with tempfile.TemporaryDirectory() as data, ExitStack() as running:
    cluster = running.enter_context(Popen([*CLUSTER, data], stdout=PIPE, stderr=DEVNULL))
    running.callback(cluster.send_signal, SIGINT)
    *others, last = json.loads(next(cluster.stdout or iter(())))["nodes"]
    run(["kill", "-9", str(last["pid"])], check=True)
    time.sleep(1)  # what was inside it at that instant may be lost, or not; then all know
    print(Counter(ask(others[0]["http"], "PUT", f"{key}?w=3", b"figs") for key in KEYS))
    again = running.enter_context(Popen(last["restart"], stdout=DEVNULL, stderr=DEVNULL))
    running.callback(again.send_signal, SIGINT)
    print(Counter(ask(n["http"], "POST", "/admin/hints/sync")[:3] for n in others))
    print(Counter(ask(others[1]["http"], "GET", f"{key}?pr=3") for key in KEYS))
