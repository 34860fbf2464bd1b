"""The first words on a connection: who are you, and do you know the cluster's secret.

    dialer    HELLO    greeting
    acceptor  ANSWER   greeting, proof        (proof: HMAC of the secret over both greetings)
    dialer    PROOF    last session, proof    (once it has verified and admitted the acceptor)
    acceptor  CONFIRM                         (likewise; then frames flow both ways)
    either    REFUSAL  code, message          (then it closes)

Every packet starts with magic, version, kind and length, so that whatever is not ours is known by
its first bytes. Both greetings hold fresh nonces: nothing of one handshake serves in another. A
refusal sent after the proofs carries one too; without it only codes that carry no facts are
believed. Takes bytes and gives bytes; knows nothing of sockets or time. What it hides is nothing:
the secret proves membership, it does not encrypt.
"""

from __future__ import annotations

from hmac import compare_digest
from hmac import digest as hmac_digest
from struct import Struct as Layout
from typing import Annotated, Final, Literal, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Meta

MAGIC: Final = b"DYNA"
VERSION: Final = 3
NONCE_BYTES: Final = 16
PROCESS_BYTES: Final = 8
SESSION_BYTES: Final = 16
BODY_BYTES_MAX: Final = 8_192
REFUSAL_TEXT_MAX: Final = 500

_HEADER: Final = Layout(">4sBBH")
_LENGTH: Final = Layout(">I")
_HELLO, _ANSWER, _PROOF, _CONFIRM, _REFUSAL = 1, 2, 3, 4, 5

_UInt63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Text = Annotated[str, Meta(max_length=255)]
_Code = Annotated[str, Meta(min_length=1, max_length=64)]
_Nonce = Annotated[bytes, Meta(max_length=NONCE_BYTES)]
_Digest = Annotated[bytes, Meta(max_length=64)]
_Process = Annotated[bytes, Meta(min_length=PROCESS_BYTES, max_length=PROCESS_BYTES)]
_Session = Annotated[bytes, Meta(max_length=SESSION_BYTES)]


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """What a node says of itself.

    `start`: its start number; `random`: the bytes drawn with it, so that two processes that took
    the same number (from two copies of a disk) are told apart. `write_number`: last write it has
    on disk. `ring_digest`: of its ring of `epoch`, b"" without one. `address`: where others dial
    it. `nonce`: 16 random bytes, put in by the transport for each connection.
    """

    cluster_id: _Name
    node_id: _Name
    start: _UInt63
    write_number: _UInt63
    epoch: _UInt63
    ring_digest: _Digest
    address: _Name
    datacenter: _Text
    rack: _Text
    host: _Text
    weight: _UInt63 = 1
    nonce: _Nonce = b""
    random: _Nonce = b""


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why a node will not talk to another.

    `code`: wrong_version, wrong_cluster, own_node_id, bad_proof, `behind` (the other shows a lower
    start or write number than `known_start`, `known_write_number`), or another of the gate's.
    `self` (a node has dialed itself) is for its own gate only; `duplicate` (the pair has a
    connection) stays inside the transport.
    """

    code: _Code
    message: Annotated[str, Meta(max_length=REFUSAL_TEXT_MAX)]
    known_start: _UInt63 = 0
    known_write_number: _UInt63 = 0


WRONG_VERSION: Final = "wrong_version"
WRONG_CLUSTER: Final = "wrong_cluster"
OWN_NODE_ID: Final = "own_node_id"
BAD_PROOF: Final = "bad_proof"
BEHIND: Final = "behind"
SELF: Final = "self"
DUPLICATE: Final = "duplicate"
#: Believed by a dialer without a proof: the worst a liar gets is a line in a log and another attempt.
#: An acceptor believes BAD_PROOF only, and not the words: anybody may call, as often as he likes.
_UNPROVEN_CODES: Final = frozenset((WRONG_VERSION, WRONG_CLUSTER, OWN_NODE_ID, BAD_PROOF))


_SECRETS_DIFFER: Final = Refusal(BAD_PROOF, "the secrets of the two nodes differ")


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """A greeting, and 8 random bytes that name the running process."""

    greeting: Greeting
    process: _Process


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    hello: bytes
    proof: bytes


class _Proof(msgspec.Struct, frozen=True, array_like=True):
    last_session: _Session
    proof: bytes


class _SignedRefusal(msgspec.Struct, frozen=True, array_like=True):
    refusal: Refusal
    proof: bytes


class Keys(NamedTuple):
    """What both sides derive from the handshake: checksum seeds and a name for the session."""

    seed_out: int
    seed_in: int
    session: bytes


class Judge(Protocol):
    """Decides about a peer that has proved that it knows the secret."""

    def admit(self, peer: Hello, last_session: bytes) -> Refusal | None:
        """None to go on. `last_session`: the last session the peer's process had with this node
        when it sent its proof; b"" for none, and always when this side dials."""
        ...

    def last_session(self, node_id: str) -> bytes:
        """Name of the last session this process had with the node, b"" for none."""
        ...


#: "pending": more bytes are needed. "done": `peer` and `keys` are set, `rest` holds what followed.
#: "refused": by this side. "refused_by_peer": by the other one. "garbage": `reason` says what came
#: instead.
Outcome = Literal["pending", "done", "refused", "refused_by_peer", "garbage"]

_encode = msgspec.msgpack.encode
_Body = TypeVar("_Body", Hello, _Answer, _Proof, _SignedRefusal)


class _Garbage(Exception):
    """What came is no handshake."""


class Handshake:
    """One side of one handshake."""

    def __init__(self, *, dialing: bool, secret: bytes, own: Hello, judge: Judge) -> None:
        self._dialing = dialing
        self._secret = secret
        self._own = own
        self._own_bytes = _encode(own)
        self._judge = judge
        self._buffer = bytearray()
        self._transcript: bytes | None = None
        self._awaited = _ANSWER if dialing else _HELLO
        self.outcome: Outcome = "pending"
        self.peer: Hello | None = None
        self.keys: Keys | None = None
        self.refusal: Refusal | None = None
        self.reason = ""
        self.rest = b""

    def __repr__(self) -> str:
        peer = self.peer.greeting.node_id if self.peer is not None else "?"
        side = "dialer" if self._dialing else "acceptor"
        return f"Handshake({side} peer={peer} {self.outcome})"

    def start(self) -> bytes:
        """What to send before anything came."""
        return _packet(_HELLO, self._own_bytes) if self._dialing else b""

    def receive(self, data: bytes) -> bytes:
        """Take bytes in any pieces; returns what to send. Look at `outcome` afterwards."""
        if self.outcome != "pending":
            return b""
        self._buffer += data
        try:
            taken = self._take_packet()
            if taken is None:
                return b""
            return self._on_packet(*taken)
        except _Garbage as garbage:
            self.outcome = "garbage"
            self.reason = str(garbage)
            return b""

    def _take_packet(self) -> tuple[int, int, bytes] | None:
        """Version, kind and body of the packet in the buffer; None while it is incomplete."""
        buffer = self._buffer
        if bytes(buffer[:4]) != MAGIC[: len(buffer)]:
            raise _Garbage("not this protocol")
        if len(buffer) < _HEADER.size:
            return None
        _, version, kind, length = _HEADER.unpack_from(buffer)
        if version != VERSION and kind != _REFUSAL:
            return version, kind, b""
        if length > BODY_BYTES_MAX:
            raise _Garbage("handshake packet too long")
        end = _HEADER.size + length
        # The two sides take turns: only what follows a CONFIRM may already be there.
        if len(buffer) > end and kind != _CONFIRM:
            raise _Garbage("bytes before the handshake was done")
        if len(buffer) < end:
            return None
        body = bytes(buffer[_HEADER.size : end])
        self.rest = bytes(buffer[end:])
        self._buffer = bytearray()
        return version, kind, body

    def _on_packet(self, version: int, kind: int, body: bytes) -> bytes:
        if kind == _REFUSAL:
            self._on_refusal(body)
            return b""
        if version != VERSION:
            return self._refuse(
                Refusal(WRONG_VERSION, f"this node speaks version {VERSION}, not {version}")
            )
        if kind != self._awaited:
            raise _Garbage(f"handshake packet {kind} instead of {self._awaited}")
        if kind == _HELLO:
            return self._on_hello(body)
        if kind == _ANSWER:
            return self._on_answer(body)
        if kind == _PROOF:
            return self._on_proof(body)
        if body:
            raise _Garbage("a confirmation with a body")
        self._finish()
        return b""

    def _on_hello(self, body: bytes) -> bytes:
        peer = self.peer = _decode(body, Hello)
        refusal = self._disagreement(peer)
        if refusal is not None:
            return self._refuse(refusal)
        self._transcript = _transcript(body, self._own_bytes)
        self._awaited = _PROOF
        return _packet(_ANSWER, _encode(_Answer(self._own_bytes, self._mac(b"acceptor"))))

    def _on_answer(self, body: bytes) -> bytes:
        answer = _decode(body, _Answer)
        peer = self.peer = _decode(answer.hello, Hello)
        refusal = self._disagreement(peer)
        if refusal is not None:
            return self._refuse(refusal)
        self._transcript = _transcript(self._own_bytes, answer.hello)
        if not compare_digest(answer.proof, self._mac(b"acceptor")):
            self._transcript = None
            return self._refuse(_SECRETS_DIFFER)
        if peer.process == self._own.process:
            return self._refuse(Refusal(SELF, "a node has dialed itself"))
        refusal = self._judge.admit(peer, b"")
        if refusal is not None:
            return self._refuse(refusal)
        last = self._judge.last_session(peer.greeting.node_id)
        self._awaited = _CONFIRM
        return _packet(_PROOF, _encode(_Proof(last, self._mac(b"dialer", last))))

    def _on_proof(self, body: bytes) -> bytes:
        proof = _decode(body, _Proof)
        assert self.peer is not None
        if self.peer.process == self._own.process:
            raise _Garbage("a node that dialed itself goes on")
        if not compare_digest(proof.proof, self._mac(b"dialer", proof.last_session)):
            self._transcript = None
            return self._refuse(_SECRETS_DIFFER)
        refusal = self._judge.admit(self.peer, proof.last_session)
        if refusal is not None:
            return self._refuse(refusal)
        self._finish()
        return _packet(_CONFIRM, b"")

    def _on_refusal(self, body: bytes) -> None:
        signed = _decode(body, _SignedRefusal)
        refusal = signed.refusal
        proven = self._transcript is not None and compare_digest(
            signed.proof, self._mac(self._refusal_label(not self._dialing), _encode(refusal))
        )
        if not proven:
            refusal = self._unproven(refusal)
        self.outcome = "refused_by_peer"
        self.refusal = refusal

    def _unproven(self, refusal: Refusal) -> Refusal:
        """What may be believed of a refusal that anybody could have sent."""
        if self._dialing and refusal.code in _UNPROVEN_CODES:
            return Refusal(refusal.code, refusal.message)
        if self._awaited == _PROOF and refusal.code == BAD_PROOF:
            return _SECRETS_DIFFER
        raise _Garbage("a refusal without a proof")

    def _disagreement(self, peer: Hello) -> Refusal | None:
        """What the greetings alone say against each other."""
        own, other = self._own.greeting, peer.greeting
        if len(other.nonce) != NONCE_BYTES:
            raise _Garbage("a greeting without a nonce")
        if other.cluster_id != own.cluster_id:
            return Refusal(
                WRONG_CLUSTER, f"this node is of cluster {own.cluster_id}, not {other.cluster_id}"
            )
        # A node that dials itself finds out as the dialer, by the proof of the answer.
        if other.node_id == own.node_id and peer.process != self._own.process:
            return Refusal(OWN_NODE_ID, f"{own.node_id} at {own.address} has this node id already")
        return None

    def _refuse(self, refusal: Refusal) -> bytes:
        refusal = msgspec.structs.replace(refusal, message=refusal.message[:REFUSAL_TEXT_MAX])
        self.outcome = "refused"
        self.refusal = refusal
        proof = b""
        if self._transcript is not None:
            proof = self._mac(self._refusal_label(self._dialing), _encode(refusal))
        return _packet(_REFUSAL, _encode(_SignedRefusal(refusal, proof)))

    def _finish(self) -> None:
        digest = self._mac(b"frames")
        dialer = int.from_bytes(digest[:4])
        acceptor = int.from_bytes(digest[4:8])
        session = digest[8 : 8 + SESSION_BYTES]
        self.keys = (
            Keys(dialer, acceptor, session) if self._dialing else Keys(acceptor, dialer, session)
        )
        self.outcome = "done"

    def _mac(self, label: bytes, more: bytes = b"") -> bytes:
        assert self._transcript is not None
        text = b"dynamo rpc %d %b\0%b%b" % (VERSION, label, self._transcript, more)
        return hmac_digest(self._secret, text, "sha256")

    @staticmethod
    def _refusal_label(by_dialer: bool) -> bytes:
        return b"refusal by dialer" if by_dialer else b"refusal by acceptor"


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) <= BODY_BYTES_MAX
    return _HEADER.pack(MAGIC, VERSION, kind, len(body)) + body


def _transcript(dialer: bytes, acceptor: bytes) -> bytes:
    return b"".join((_LENGTH.pack(len(dialer)), dialer, _LENGTH.pack(len(acceptor)), acceptor))


def _decode(body: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Garbage(f"not a handshake packet: {error}") from None
