"""One established connection: requests, replies and the frames they travel in.

Replies reach their waiter, and requests their handler, straight from `receive`: no task, no queue.
All that is sent in one turn of the loop leaves in one write. Bounded: requests in flight
(`pending`), bytes that wait to be written (WRITE_BYTES_MAX), time that a frame may take to arrive.
Knows nothing of handshakes or of how connections come and go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from dynamo.errors import Malformed
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Handler, Prompt, Timer, Waiter
from dynamo.rpc.codec import Buffer, UnknownOperation, decode_reply, decode_request, encode
from dynamo.rpc.delay import STAMP_BITS, Delay
from dynamo.rpc.frame import LAST, MESSAGE_BYTES_MAX, REPLY, FrameReader, FrameWriter
from dynamo.rpc.messages import Refused, Reply
from dynamo.rpc.pending import Pending

#: Bytes that may wait to be written before requests are refused and replies dropped.
WRITE_BYTES_MAX: Final = 32 << 20
#: A turn of the loop that sends more than this writes it at once.
FLUSH_BYTES: Final = 1 << 20
#: A write buffer that stays full this long closes the connection.
WRITE_STALL_SECONDS: Final = 10.0
#: A message has this long to arrive, from its first byte on, and a second more for each
#: FRAME_BYTES_A_SECOND of it that are there: what it says of its length earns nothing.
FRAME_SECONDS: Final = 10.0
FRAME_BYTES_A_SECOND: Final = 100_000

_WATCH_SECONDS: Final = 1.0

_CLOSED: Final = Failure("not_sent", "not connected")
_FULL: Final = Failure("not_sent", "too many bytes wait to be written")
_TOO_MANY: Final = Failure("not_sent", "too many requests in flight")
_TOO_LARGE: Final = Failure("not_sent", "the message is too large")
_BAD_REPLY: Final = Failure("lost", "the reply was malformed")

_LAST_REPLY: Final = REPLY | LAST

log = logging.getLogger("dynamo.rpc")


class Writer(Protocol):
    """What a channel needs of an asyncio transport."""

    def write(self, data: bytes) -> None: ...


class Channel:
    """Both directions of one connection to `peer`.

    `close` is called with the reason when the channel finds that it cannot go on, and must call
    `shut` in turn.
    """

    __slots__ = (
        "_call_soon",
        "_clock",
        "_close",
        "_closed",
        "_count",
        "_delay",
        "_flush_due",
        "_full_timer",
        "_handlers",
        "_monotonic",
        "_out_bytes",
        "_paused",
        "_reader",
        "_watch_number",
        "_watch_since",
        "_watch_timer",
        "_writer",
        "_writing",
        "heard_at",
        "peer",
        "pending",
    )

    def __init__(
        self,
        *,
        peer: str,
        seed_out: int,
        seed_in: int,
        writer: Writer,
        close: Callable[[str], None],
        clock: Clock,
        call_soon: Callable[[Callable[[], None]], Any],
        metrics: Metrics,
        handlers: Mapping[type, Handler],
    ) -> None:
        self.peer = peer
        self.pending = Pending(node=peer, clock=clock, metrics=metrics)
        self._reader = FrameReader(seed=seed_in)
        self._writing = FrameWriter(seed=seed_out)
        self._delay = Delay(clock.monotonic())
        self._writer = writer
        self._close = close
        self._clock = clock
        self._monotonic = clock.monotonic
        self._call_soon = call_soon
        self._count = metrics.count
        self._handlers = handlers
        self._out_bytes = 0
        self._flush_due = False
        self._paused = False
        self._closed = False
        self._full_timer: Timer | None = None
        self._watch_timer: Timer | None = None
        self._watch_number = -1
        self._watch_since = 0.0
        #: When the last bytes came, monotonic seconds; at first, when the channel was opened.
        self.heard_at = clock.monotonic()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "full" if self._paused else "open"
        return f"Channel({self.peer} {state} in_flight={len(self.pending)} out={self._out_bytes}B)"

    # Sending ------------------------------------------------------------------------------------

    def request(self, payload: bytes, waiter: Waiter, now: float, expires_at: float) -> None:
        """Send an encoded request. `on_failure(not_sent)` at once where that is impossible."""
        if self._closed or self._paused or len(payload) > MESSAGE_BYTES_MAX:
            failure = _CLOSED if self._closed else _FULL if self._paused else _TOO_LARGE
            self._not_sent(waiter, failure)
            return
        stream = self.pending.open(waiter, now, expires_at)
        if stream < 0:
            self._not_sent(waiter, _TOO_MANY)
            return
        self._send(stream, 0, payload)

    def _not_sent(self, waiter: Waiter, failure: Failure) -> None:
        self._count["rpc_requests_not_sent"] += 1
        waiter.on_failure(self.peer, failure)

    def _reply(self, stream: int, reply: Reply, last: bool) -> None:
        if self._closed:
            self._count["rpc_replies_to_the_gone"] += 1
            return
        if self._paused:
            # The peer sends and does not read. It sees a request time out.
            self._count["rpc_replies_unwritable"] += 1
            return
        payload = encode(reply)
        if len(payload) > MESSAGE_BYTES_MAX:
            self._count["rpc_replies_too_large"] += 1
            payload = encode(Refused("internal", False, "the reply is too large"))
        self._send(stream, _LAST_REPLY if last else REPLY, payload)

    def _send(self, stream: int, flags: int, payload: bytes) -> None:
        self._out_bytes += self._writing.add(stream, flags, payload)
        if not self._flush_due:
            self._flush_due = True
            self._call_soon(self._flush_turn)
        if self._out_bytes > FLUSH_BYTES:
            self._flush()

    def _flush_turn(self) -> None:
        self._flush_due = False
        if self._out_bytes:
            self._flush()

    def _flush(self) -> None:
        if self._closed:
            return
        writing = self._writing
        before = writing.frames
        writing.stamps = self._delay.stamps(self._monotonic())
        data = writing.take()
        count = self._count
        count["rpc_bytes_sent"] += len(data)
        count["rpc_frames_sent"] += writing.frames - before
        self._out_bytes = 0
        self._writer.write(data)

    def pause_writing(self) -> None:
        """The transport holds WRITE_BYTES_MAX that the peer has not taken."""
        self._paused = True
        self._count["rpc_writes_paused"] += 1
        if self._full_timer is None and not self._closed:
            self._full_timer = self._clock.call_later(WRITE_STALL_SECONDS, self._stalled)

    def resume_writing(self) -> None:
        """The transport has room again."""
        self._paused = False
        if self._full_timer is not None:
            self._full_timer.cancel()
            self._full_timer = None

    def _stalled(self) -> None:
        self._full_timer = None
        self._count["rpc_writes_stalled"] += 1
        self._close(f"its write buffer was full for {WRITE_STALL_SECONDS:.0f} s")

    # Receiving ----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Carry out what came. After `shut` nothing more is, not even of the same `data`."""
        if self._closed:
            return
        reader = self._reader
        messages = reader.feed(data)
        count = self._count
        count["rpc_bytes_received"] += len(data)
        count["rpc_messages_received"] += len(messages)
        now = self.heard_at = self._monotonic()
        unread = len(messages)
        delay = self._delay
        if unread:
            delay.heard = messages[-1][3] >> STAMP_BITS
        due, due_by = now, 0
        for stream, flags, payload, stamps in messages:
            unread -= 1
            if flags & REPLY:
                self._on_reply(stream, payload, flags & LAST, now)
            else:
                if stamps != due_by:
                    due, due_by = now - delay.late(stamps, now), stamps
                self._on_request(stream, payload, due)
            if self._closed:
                count["rpc_messages_unread"] += unread
                return
        if reader.fault is not None:
            count["rpc_frames_bad"] += 1
            self._close(reader.fault)
        elif reader.unfinished and reader.number != self._watch_number:
            self._watch_number = reader.number
            self._watch_since = now
            if self._watch_timer is None:
                self._watch_timer = self._clock.call_later(_WATCH_SECONDS, self._watch)

    def _on_reply(self, stream: int, payload: Buffer, last: int, now: float) -> None:
        try:
            reply = decode_reply(payload)
        except Malformed as error:
            count = self._count["rpc_replies_malformed"] = self._count["rpc_replies_malformed"] + 1
            if count & (count - 1) == 0:  # the 1st, 2nd, 4th, ...: one cause can have many
                log.warning(
                    "%s sent a reply that is malformed (%s so far): %s", self.peer, count, error
                )
            self.pending.fail(stream, _BAD_REPLY)
        else:
            self.pending.reply(stream, reply, last, now)

    def _on_request(self, stream: int, payload: Buffer, due: float) -> None:
        """Carry it out. `due`: when it would have been read, had nothing stood still: its time counts
        from then."""
        try:
            request = decode_request(payload)
        except UnknownOperation as error:
            self._count["rpc_requests_unknown"] += 1
            self._reply(stream, Refused("unknown_operation", True, error.message), True)
            return
        except Malformed as error:
            self._count["rpc_requests_malformed"] += 1
            self._reply(stream, Refused("malformed", True, error.message[:200]), True)
            return
        deadline = due + request.deadline_ms / 1000
        # Not the time of the read: those before it in the same turn may have taken their time.
        if self._monotonic() >= deadline:
            self._count["rpc_requests_past_deadline"] += 1
            self._reply(stream, Refused("deadline_past", True), True)
            return
        handler = self._handlers.get(type(request))
        if handler is None:
            self._count["rpc_requests_unknown"] += 1
            detail = f"this node does not serve {type(request).__name__}"
            self._reply(stream, Refused("unknown_operation", True, detail), True)
            return
        if type(handler) is Prompt:
            try:
                reply = handler.at_once(request)
            except Exception:
                self._count["rpc_handlers_failed"] += 1
                log.exception("%s of %s met a bug", type(request).__name__, self.peer)
                reply = Refused("internal", False)
            if reply is not None:
                self._reply(stream, reply, True)
                return
        call = RemoteCall(self, stream, deadline)
        try:
            handler(request, call)
        except Exception:
            self._count["rpc_handlers_failed"] += 1
            log.exception("%s of %s met a bug", type(request).__name__, self.peer)
            if not call.ended:
                call.reply(Refused("internal", False))

    def _watch(self) -> None:
        """Close if the message that is under way takes too long."""
        self._watch_timer = None
        reader = self._reader
        if not reader.unfinished:
            return
        limit = FRAME_SECONDS + reader.held_bytes / FRAME_BYTES_A_SECOND
        if reader.number == self._watch_number and (self._monotonic() - self._watch_since >= limit):
            self._count["rpc_frames_stalled"] += 1
            self._close(f"a frame was not complete after {limit:.0f} s")
            return
        self._watch_timer = self._clock.call_later(_WATCH_SECONDS, self._watch)

    # Closing ------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write what waits to be written, as far as the transport takes it."""
        if self._out_bytes:
            self._flush()

    def shut(self, reason: str) -> None:
        """Execute nothing more, send nothing more, tell everyone who waits that it is lost."""
        if self._closed:
            return
        self._closed = True
        self._writing.drop()
        self._out_bytes = 0
        for timer in (self._full_timer, self._watch_timer):
            if timer is not None:
                timer.cancel()
        self._full_timer = self._watch_timer = None
        self.pending.close(Failure("lost", reason))


class RemoteCall:
    """A request of the peer, and the way back to it (the port `Call`)."""

    __slots__ = ("_channel", "_stream", "deadline", "ended", "peer")

    def __init__(self, channel: Channel, stream: int, deadline: float) -> None:
        self._channel = channel
        self._stream = stream
        self.peer = channel.peer
        self.deadline = deadline
        #: The last reply was given.
        self.ended = False

    def __repr__(self) -> str:
        return f"RemoteCall({self.peer} #{self._stream}{' ended' if self.ended else ''})"

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Send an answer; one that nobody can wait for any more is dropped and counted."""
        channel = self._channel
        if self.ended:
            channel._count["rpc_replies_after_last"] += 1
            return
        if last:
            self.ended = True
        if channel._monotonic() >= self.deadline:
            channel._count["rpc_replies_past_deadline"] += 1
            return
        channel._reply(self._stream, reply, last)
