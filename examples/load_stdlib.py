"""Load Python's standard library into the store (not its own tests, which some systems leave out),
read it back elsewhere, compare byte for byte.

python examples/load_stdlib.py http://127.0.0.1:8098 [http://127.0.0.1:8099 ...]
"""

import http.client
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

ROOT, SKIPPED = Path(sysconfig.get_path("stdlib")), {"site-packages", "__pycache__", "test"}
NODES = sys.argv[1:] or ["http://127.0.0.1:8098"]


def ask(node: str, method: str, name: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(node).netloc, timeout=60)
    path = f"/buckets/stdlib/keys/{quote(name, safe='')}"
    connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
    reply = connection.getresponse()
    return reply.status, reply.read()


def round_trip(path: Path, number: int) -> tuple[int, str]:
    name, content = path.relative_to(ROOT).as_posix(), path.read_bytes()
    here, there = NODES[number % len(NODES)], NODES[(number + 1) % len(NODES)]
    ask(here, "DELETE", name)  # what an earlier run left is replaced, not kept as a sibling
    status, _ = ask(here, "PUT", name, content)
    if status == 204 and ask(there, "GET", name) == (200, content):
        status = 200
    return status, name  # 413: over the value limit


FILES = sorted(p for p in ROOT.rglob("*") if p.is_file() and not SKIPPED & set(p.parts))
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(round_trip, FILES, range(len(FILES))))
wrong = [f"{status}: {name}" for status, name in results if status != 200]
print(*wrong, f"{len(FILES) - len(wrong)} of {len(FILES)} files came back byte for byte", sep="\n")
sys.exit(any(status not in (200, 413) for status, _ in results))
