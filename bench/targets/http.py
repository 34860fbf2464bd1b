"""A cluster of the store that runs already, by the addresses of its nodes.

Reads and writes go over HTTP as any client's would. What the nodes cannot do (tell their stamps, slow
their messages down, ...) is asked of them once, and said in `capabilities`. A bucket a run: its keys,
properties and values are no other run's. Knows nothing of how the nodes were started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Self, cast
from urllib.parse import quote, urlsplit

import msgspec

from bench.faults import Fault
from bench.targets.client import Answer, Broken, Client, NotSent
from bench.targets.dialect import LOCAL_HEADER, STAMPS_HEADER, Dialect, why
from bench.targets.protocol import Capabilities, Reply, Setup, TargetFailed
from bench.targets.rules import OF_MESSAGES, rules_of
from bench.targets.value import encode_value

#: What an answer may take beyond the time that the store was given.
GRACE_SECONDS: Final = 1.0
#: For questions about the nodes themselves.
ADMIN_SECONDS: Final = 10.0
_BUCKET: Final = "bench-{run}"

log = logging.getLogger(__name__)


class HttpTarget:
    """The port `Target`. `addresses`: "host:port" or URLs, one of each node, in order. `slow`: delays
    of messages from `setup` on, leg -> distribution."""

    name = "http"

    def __init__(
        self, addresses: Sequence[str], *, slow: Mapping[str, list[list[Any]]] | None = None
    ) -> None:
        """Raises TargetFailed for what is no address."""
        self.addresses = [parse_address(address) for address in addresses]
        if not self.addresses or len(set(self.addresses)) < len(self.addresses):
            raise TargetFailed("name each node once, and at least one")
        self.nodes: tuple[str, ...] = tuple(self.addresses)
        self._slow = dict(slow or {})
        self._clients: list[Client] = []
        self._capabilities = Capabilities()
        self._setup = Setup(run="", n=0)
        self._dialect = Dialect(run="", bucket="", stamps=False)
        self._bucket = ""
        self._turn = 0
        #: Of messages, in the order they began.
        self._active: list[Fault] = []
        self._effective: dict[str, object] = {}
        self._has_properties = False
        self._has_rules = False
        #: Nodes that are not there, so that nothing is asked of them.
        self._gone: set[int] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.nodes)})"

    @property
    def capabilities(self) -> Capabilities:
        """As of the nodes, once they are opened."""
        return self._capabilities

    @property
    def properties(self) -> Mapping[str, object]:
        """As the first node showed them at the end of `setup`: also what its bucket type gives."""
        return self._effective

    # Coming and going ---------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Raises TargetFailed if a node does not answer."""
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The nodes are as they were, but for what was written."""
        try:
            await self._restore()
        except TargetFailed as failure:
            log.warning("the nodes are not as they were: %s", failure)
        finally:
            self._close_clients()

    async def _open(self) -> None:
        self._clients = [Client(address) for address in self.addresses]
        try:
            # A cluster that was just started may still be at it.
            names = [(await self._admin(i, "GET", "/admin/status"))["node"] for i in self._each()]
            if len(set(names)) < len(names):
                raise TargetFailed(f"one node was named twice: {', '.join(names)}")
            self.nodes = tuple(names)
            self._capabilities = await self._look()
        except BaseException:
            self._close_clients()
            raise

    def _close_clients(self) -> None:
        for client in self._clients:
            client.close()

    def _each(self) -> range:
        return range(len(self.addresses))

    async def _look(self) -> Capabilities:
        """What every node can do, by what it says of itself."""
        documents = [await self._ask(i, "GET", "/openapi.json") for i in self._each()]
        faults = [await self._ask(i, "GET", "/admin/faults") for i in self._each()]

        def all_know(word: str) -> bool:
            return all(word.encode() in answer.body for answer in documents)

        has_faults = all(answer.status == 200 for answer in faults)
        return Capabilities(
            verbs=OF_MESSAGES if has_faults else (),
            directed=all_know(LOCAL_HEADER),
            stamps=all_know(STAMPS_HEADER),
            siblings=True,
            contexts=True,
            wars=all_know("/admin/wars"),
            trees=all_know("/admin/antientropy/roots"),
        )

    async def _restore(self) -> None:
        if self._has_rules:
            self._active.clear()
            self._slow = {}
            await self._apply()
        if self._has_properties:
            await self._admin(0, "DELETE", self._properties())
            self._has_properties = False

    # Questions about the nodes -------------------------------------------------------------------

    async def _ask(self, index: int, method: str, path: str, body: object = None) -> Answer:
        """Raises TargetFailed if there is no answer."""
        data = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(data)}\r\n"
        if data:
            head += "Content-Type: application/json\r\n"
        try:
            return await self._clients[index].ask(
                f"{head}\r\n".encode("ascii") + data, ADMIN_SECONDS
            )
        except (NotSent, Broken) as error:
            raise TargetFailed(f"{self.nodes[index]}: {method} {path}: {error}") from None

    async def _admin(self, index: int, method: str, path: str, body: object = None) -> Any:
        """What the node answers, as JSON. Raises TargetFailed, also for an error."""
        answer = await self._ask(index, method, path, body)
        if answer.status not in (200, 204):
            raise TargetFailed(f"{self.nodes[index]}: {method} {path}: {why(answer)}")
        try:
            return msgspec.json.decode(answer.body) if answer.body else None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TargetFailed(f"{self.nodes[index]}: {method} {path}: {error}") from None

    # The port Target ----------------------------------------------------------------------------

    async def setup(self, setup: Setup) -> None:
        """The run's bucket has these properties, its delays are on. Raises TargetFailed."""
        if not setup.run.isascii() or not setup.run:
            raise TargetFailed(f"the name of a run is ASCII, not {setup.run!r}")
        self._setup = setup
        self._bucket = _BUCKET.format(run=setup.run)
        self._dialect = Dialect(
            run=setup.run, bucket=self._bucket, stamps=self._capabilities.stamps
        )
        shown = await self._show()
        if shown.get("n_val") != setup.n:
            raise TargetFailed(f"the cluster keeps {shown.get('n_val')} replicas, not {setup.n}")
        wanted = {name: value for name, value in setup.properties.items() if name != "n_val"}
        if setup.properties.get("n_val", setup.n) != setup.n:
            raise TargetFailed(f"n_val is {setup.properties['n_val']}, and n is {setup.n}")
        if wanted:
            await self._admin(0, "PUT", self._properties(), {"props": wanted})
            self._has_properties = True
            shown = await self._show()
        self._effective = shown
        if self._slow:
            self._check_verb("slow")
            await self._apply()

    async def _show(self) -> dict[str, object]:
        """The properties in effect. Raises TargetFailed."""
        shown = await self._admin(0, "GET", self._properties())
        if not isinstance(shown, dict) or not isinstance(shown.get("props"), dict):
            raise TargetFailed(f"{self.nodes[0]}: it does not show the properties of a bucket")
        return cast(dict[str, object], shown["props"])

    def _properties(self) -> str:
        return f"/buckets/{quote(self._bucket, safe='')}/props"

    async def write(
        self,
        key: str,
        version: int,
        *,
        context: bytes = b"",
        w: int | None = None,
        coordinator: int | None = None,
        elements: tuple[int, ...] = (),
        timeout: float = 10.0,
    ) -> Reply:
        """As `Target.write`. What broke off after it was sent is unknown."""
        value = encode_value(self._setup.run, version, elements, self._setup.value_bytes)
        request = self._dialect.write(key, value, context=context, w=w, timeout=timeout)
        index = self._next(coordinator)
        node = self.nodes[index]
        try:
            answer = await self._send(index, request, timeout, anywhere=coordinator is None)
        except NotSent as error:
            return Reply("fail", node, why=str(error))
        except Broken as error:
            return Reply("unknown", node, why=str(error))
        return self._dialect.write_answer(answer[1], self.nodes[answer[0]])

    async def read(
        self,
        key: str,
        *,
        r: int | None = None,
        coordinator: int | None = None,
        replica: int | None = None,
        timeout: float = 10.0,
    ) -> Reply:
        """As `Target.read`. Without an answer it failed."""
        if replica is not None and not self._capabilities.directed:
            return Reply("fail", self.nodes[replica], why="the nodes know no directed reads")
        asked = coordinator if replica is None else replica
        local = replica is not None
        request = self._dialect.read(key, r=r, timeout=timeout, local=local)
        index = self._next(asked)
        try:
            answer = await self._send(index, request, timeout, anywhere=asked is None)
        except (NotSent, Broken) as error:
            return Reply("fail", self.nodes[index], why=str(error))
        return self._dialect.read_answer(answer[1], self.nodes[answer[0]])

    def _next(self, asked: int | None) -> int:
        """Who is asked: where nobody is named, each in turn."""
        if asked is not None:
            return asked
        self._turn = (self._turn + 1) % len(self._clients)
        return self._turn

    async def _send(
        self, index: int, request: bytes, timeout: float, *, anywhere: bool
    ) -> tuple[int, Answer]:
        """(who answered, what). With `anywhere` the next is asked if one cannot be reached, as whatever
        spreads a service's requests over nodes would. Raises NotSent, Broken."""
        clients = self._clients
        for _ in range(len(clients) - 1 if anywhere else 0):
            try:
                return index, await clients[index].ask(request, timeout + GRACE_SECONDS)
            except NotSent:
                index = (index + 1) % len(clients)
        return index, await clients[index].ask(request, timeout + GRACE_SECONDS)

    async def trees_equal(self) -> bool | None:
        """Whether all owners of each partition have the same in it, and no tree is being built."""
        if not self._capabilities.trees:
            return None
        told = [await self._admin(i, "GET", "/admin/antientropy/roots") for i in self._each()]
        return are_equal(told)

    async def wars(self) -> bytes | None:
        """As `Target.wars`. Raises TargetFailed."""
        if not self._capabilities.wars:
            return None
        told = [await self._admin(i, "GET", "/admin/wars") for i in self._each()]
        return msgspec.json.encode(told)

    # Faults -------------------------------------------------------------------------------------

    async def fault(self, fault: Fault) -> None:
        """As `Target.fault`: of messages, if the nodes were started so."""
        self._check_verb(fault.do)
        self._check_nodes(fault)
        self._active.append(fault)
        try:
            await self._apply()
        except TargetFailed:
            # What is no fault must not stand in the way of those to come.
            self._active.remove(fault)
            await self._apply()
            raise

    async def mend(self, fault: Fault) -> None:
        """As `Target.mend`."""
        self._check_verb(fault.do)
        if fault in self._active:
            self._active.remove(fault)
            await self._apply()

    async def image(self, fault: Fault) -> None:
        """As `Target.image`: not of nodes that were started elsewhere."""
        self._check_verb(fault.do)

    def _check_verb(self, verb: str) -> None:
        if verb in self._capabilities.verbs:
            return
        if verb in OF_MESSAGES:
            raise TargetFailed(f"{verb}: not every node was started with --fault-injection")
        raise TargetFailed(f"{verb}: the harness has not started these nodes, and cannot do that")

    def _check_nodes(self, fault: Fault) -> None:
        for index in (*fault.nodes, *fault.peers):
            if not 0 <= index < len(self.nodes):
                raise TargetFailed(f"{fault.do}: there is no node {index} of {len(self.nodes)}")
        if fault.do == "slow" and fault.slow is None:
            raise TargetFailed("slow: by which distribution?")
        if fault.do == "partition" and not 0 < len(set(fault.nodes)) < len(self.nodes):
            raise TargetFailed("partition: name some of the nodes, and not all")

    async def _apply(self) -> None:
        """All nodes have the rules of what is on now. Raises TargetFailed."""
        self._has_rules = True
        rules = rules_of(self._active, self.nodes, self._slow)
        there = [(i, node) for i, node in enumerate(self.nodes) if i not in self._gone]
        await all_done(
            *(self._admin(i, "PUT", "/admin/faults", {"rules": rules[node]}) for i, node in there)
        )


def are_equal(told: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nodes that tell these roots (as `/admin/antientropy/roots` does) have the same wherever
    two of them keep the same partition, and know it."""
    seen: dict[tuple[str, str], str] = {}
    for node in told:
        if node["unready"]:
            return False
        for cls, roots in node["roots"].items():
            for partition, root in roots.items():
                if seen.setdefault((cls, partition), root) != root:
                    return False
    return True


async def all_done(*work: Any) -> None:
    """Run them beside each other until all have ended; raises what the first that failed raised."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def parse_address(text: str) -> str:
    """ "host:port" of that, or of a URL. Raises TargetFailed."""
    url = text if "//" in text else f"//{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (80 if parts.scheme == "http" else None)
    except ValueError as error:
        _no_address(text, str(error))
    if parts.scheme not in ("", "http"):
        _no_address(text, f"{parts.scheme} is not spoken here, http is")
    if not host or port is None or parts.path not in ("", "/") or parts.query or parts.username:
        _no_address(text, "give HOST:PORT or http://HOST:PORT")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _no_address(text: str, reason: str) -> NoReturn:
    raise TargetFailed(f"{text!r} is no address of a node: {reason}")
