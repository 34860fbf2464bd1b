"""A node gets what it has missed: no hint is kept for it, nobody reads it, and no other outlives it.

python examples/converge.py [PORT]    # takes six ports from PORT on (default: 9098)
"""

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from signal import SIGINT
from subprocess import DEVNULL, PIPE, Popen, run
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9098
KEYS = [f"/buckets/carts/keys/{number}" for number in range(100)]
FLAGS = f"--http-port {PORT} --rpc-port {PORT + 3} --exchange-interval 1 --exchange-deadline 1"
CLUSTER = [sys.executable, "-m", "dynamo", "cluster", *FLAGS.split(), "--hint-window=0", "--json"]


def ask(url: str, method: str = "GET", body: bytes | None = None) -> str:
    with urlopen(Request(url, body, {"Content-Type": "a/b"}, method=method), timeout=60) as reply:
        return f"{reply.status} {reply.read().decode()}".rstrip()


with TemporaryDirectory() as tmp, ExitStack() as stack:
    nodes = stack.enter_context(Popen([*CLUSTER, f"--data-dir={tmp}"], stdout=PIPE, stderr=DEVNULL))
    stack.callback(nodes.send_signal, SIGINT)
    *others, last = json.loads(next(nodes.stdout or iter(())))["nodes"]
    run(["kill", "-9", str(last["pid"])], check=True)
    print(Counter(ask(others[0]["http"] + key, "PUT", b"figs") for key in KEYS))
    again = stack.enter_context(Popen(last["restart"], stdout=DEVNULL, stderr=DEVNULL))
    stack.callback(again.send_signal, SIGINT)
    began, age = time.monotonic(), None  # so long ago all that the first node keeps agreed
    while age is None or age > time.monotonic() - began:
        time.sleep(0.2)
        age = json.loads(ask(others[0]["http"] + "/admin/antientropy")[4:])["oldest_clean_s"]
    run(["kill", "-9", *(str(node["pid"]) for node in others)], check=True)
    print(Counter(ask(f"{last['http']}{key}?r=1") for key in KEYS))
