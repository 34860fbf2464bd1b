"""Lists the keys of a bucket and the buckets of a type, over all partitions, on behalf of any client.

A listing that says it is complete holds every key whose write was acknowledged before it began and
that was not deleted: each partition is asked at a read quorum of its owners, page by page, and where
they disagree the key itself is read. Memory is bounded whatever there is to list. Expensive: the work
grows with all keys of the bucket, or with all buckets of every partition, so a node runs a few
listings at a time. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from dynamo.bucket_listing import BucketLister
from dynamo.cursor import CursorSealer
from dynamo.errors import BadCursor, InvalidArgument, NotReady, TooManyListings, UnknownBucketType
from dynamo.key_listing import KeyLister, Reader, split_position
from dynamo.keys import ROUTING_KEY_BYTES_MAX, bucket_prefix
from dynamo.listing_ask import PageAsker, Part, Run
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Transport
from dynamo.properties import PropertiesOf
from dynamo.requests import LIST_TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX, Listed, ListOptions
from ring.ring import Ring

#: Listings that run at a time on one node; above that they are refused.
LISTINGS_MAX: Final = 4

ALL: Final = ListOptions()


class Listing:
    """The lister of one node. Every method may be called concurrently from one event loop."""

    def __init__(
        self,
        *,
        node_id: str,
        datacenter: str,
        transport: Transport,
        clock: Clock,
        sealer: CursorSealer,
        metrics: Metrics,
        read: Reader,
        properties: PropertiesOf,
    ) -> None:
        """`read`: reads one key at a quorum, and repairs who is behind. `properties`: of a bucket."""
        self._node_id = node_id
        self._datacenter = datacenter
        self._clock = clock
        self._sealer = sealer
        self._count = metrics.count
        self._properties = properties
        asker = PageAsker(node_id=node_id, transport=transport, clock=clock, metrics=metrics)
        self._keys = KeyLister(asker=asker, read=read, clock=clock, metrics=metrics)
        self._buckets = BucketLister(asker=asker, keys=self._keys, metrics=metrics)
        self._ring: Ring | None = None
        self._classes: dict[bytes, int] = {}
        self._running = 0

    @property
    def running(self) -> int:
        """How many listings run now."""
        return self._running

    def adopt(self, ring: Ring) -> None:
        """List by this ring from now on; what runs goes on by the one it began with."""
        member = ring.member(self._node_id)
        if member is not None:
            self._datacenter = member.datacenter
        self._ring = ring
        self._classes = {class_.name.encode(): class_.id for class_ in ring.classes}

    async def list_keys(
        self, bucket_type: bytes, bucket: bytes, options: ListOptions = ALL
    ) -> AsyncGenerator[Listed, None]:
        """The live keys of a bucket, in parts; by partition, then in byte order. To be closed.

        Raises, before the first part, NotReady, UnknownBucketType, InvalidArgument, BadCursor and
        TooManyListings. After that it ends, complete or not.
        """
        run = self._run(bucket_type, options)
        scope = b"keys" + bucket_prefix(bucket_type, bucket)
        position = self._position(scope, options.cursor)
        split_position(run.ring, position)
        parts = self._keys.parts(run, bucket, position, options.limit)
        async with aclosing(self._listed(run, scope, parts)) as listed:
            async for part in listed:
                yield part

    async def list_buckets(
        self, bucket_type: bytes, options: ListOptions = ALL
    ) -> AsyncGenerator[Listed, None]:
        """The buckets of a type that hold a live key, in parts; the shorter names first, then in byte
        order. Raises and ends as `list_keys`."""
        run = self._run(bucket_type, options)
        scope = b"buckets" + bucket_type
        position = self._position(scope, options.cursor)
        if len(position) > ROUTING_KEY_BYTES_MAX + 1:
            raise BadCursor("a cursor does not name a position")
        parts = self._buckets.parts(run, position, options.limit)
        async with aclosing(self._listed(run, scope, parts)) as listed:
            async for part in listed:
                yield part

    def _run(self, bucket_type: bytes, options: ListOptions) -> Run:
        if options.limit < 0 or options.timeout_ms < 0:
            field = "limit" if options.limit < 0 else "timeout"
            raise InvalidArgument(f"{field} must be 1 or more", field=field, allowed="1 or more")
        if self._ring is None:
            raise NotReady("this node has no ring yet")
        class_id = self._classes.get(bucket_type)
        if class_id is None:
            raise UnknownBucketType("no such bucket type")
        timeout_ms = min(options.timeout_ms or LIST_TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX)
        return Run(
            self._ring,
            self._datacenter,
            class_id=class_id,
            bucket_type=bucket_type,
            deadline=self._clock.monotonic() + timeout_ms / 1000,
            shows_one=lambda bucket: self._properties(bucket_type, bucket).conflict == "lww",
        )

    def _position(self, scope: bytes, cursor: bytes) -> bytes:
        return self._sealer.open(scope, cursor) if cursor else b""

    async def _listed(
        self, run: Run, scope: bytes, parts: AsyncGenerator[Part, None]
    ) -> AsyncGenerator[Listed, None]:
        """The parts as a client gets them, counted while they are given."""
        if self._running >= LISTINGS_MAX:
            self._count["listings_refused"] += 1
            raise TooManyListings(
                f"this node runs {LISTINGS_MAX} listings, as many as it does at a time",
                limit=LISTINGS_MAX,
                retry_after_s=1,
            )
        self._running += 1
        self._count["listings"] += 1
        ended = "abandoned"
        try:
            async with aclosing(parts):
                async for names, position, done in parts:
                    cursor = b"" if position is None else self._sealer.seal(scope, position)
                    if done:
                        ended = "complete" if run.whole else "incomplete"
                    yield Listed(names, cursor, done, done and run.whole)
        finally:
            self._running -= 1
            self._count[f"listings_ended_{ended}"] += 1
