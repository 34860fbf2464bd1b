"""Load Python's standard library into the store, read it back elsewhere, compare byte for byte.

python examples/load_stdlib.py http://127.0.0.1:8098 [http://127.0.0.1:8099 ...]
"""

from __future__ import annotations

import http.client
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

ROOT = Path(sysconfig.get_path("stdlib"))
SKIPPED = {"__pycache__", "site-packages"}


def ask(node: str, method: str, name: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(node).netloc, timeout=60)
    target = f"/buckets/stdlib/keys/{quote(name, safe='')}?r=2&w=2"
    connection.request(method, target, body, {"Content-Type": "application/octet-stream"})
    reply = connection.getresponse()
    status, data = reply.status, reply.read()
    connection.close()
    return status, data


def round_trip(job: tuple[int, Path]) -> tuple[int, str]:
    """Store at one node and read at the next; what was there already is replaced, not kept."""
    number, path = job
    name, content = path.relative_to(ROOT).as_posix(), path.read_bytes()
    ask(NODES[number % len(NODES)], "DELETE", name)
    status, _ = ask(NODES[number % len(NODES)], "PUT", name, content)
    if status == 204:
        status, found = ask(NODES[(number + 1) % len(NODES)], "GET", name)
        status = status if found == content else 0
    return status, name


NODES = sys.argv[1:] or ["http://127.0.0.1:8098"]
FILES = sorted(p for p in ROOT.rglob("*") if p.is_file() and not SKIPPED & set(p.parts))
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(round_trip, enumerate(FILES)))
print("\n".join(f"413, over the value limit: {name}" for status, name in results if status == 413))
print(
    "\n".join(f"WRONG ({status}): {name}" for status, name in results if status not in (200, 413))
)
same = sum(status == 200 for status, _ in results)
print(f"{same} of {len(results)} files came back byte for byte")
sys.exit(any(status not in (200, 413) for status, _ in results))
