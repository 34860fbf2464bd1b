"""Load Python's standard library into the store, read it back elsewhere, compare byte for byte.

python examples/load_stdlib.py http://127.0.0.1:8098 [http://127.0.0.1:8099 ...]
"""

import http.client
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

ROOT = Path(sysconfig.get_path("stdlib"))
NODES = sys.argv[1:] or ["http://127.0.0.1:8098"]


def ask(node: str, method: str, name: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(node).netloc, timeout=60)
    path = f"/buckets/stdlib/keys/{quote(name, safe='')}"
    connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
    reply = connection.getresponse()
    return reply.status, reply.read()


def round_trip(job: tuple[int, Path]) -> tuple[int, str]:
    number, path = job
    name, content = path.relative_to(ROOT).as_posix(), path.read_bytes()
    here, there = NODES[number % len(NODES)], NODES[(number + 1) % len(NODES)]
    ask(here, "DELETE", name)  # what an earlier run left is replaced, not kept as a sibling
    status, _ = ask(here, "PUT", name, content)
    if status == 204:
        status, found = ask(there, "GET", name)
        status = status if found == content else 0
    return status, name


LEFT_OUT = {"site-packages", "__pycache__"}  # not part of it, and made while it is used
FILES = sorted(p for p in ROOT.rglob("*") if p.is_file() and not LEFT_OUT & set(p.parts))
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(round_trip, enumerate(FILES)))
for status, name in results:
    if status != 200:
        print("413, over the value limit:" if status == 413 else f"WRONG ({status}):", name)
print(f"{sum(s == 200 for s, _ in results)} of {len(results)} files came back byte for byte")
sys.exit(any(status not in (200, 413) for status, _ in results))
