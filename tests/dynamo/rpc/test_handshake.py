"""The first words on a connection, without a network."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo.rpc.handshake import (
    BAD_PROOF,
    BEHIND,
    BODY_BYTES_MAX,
    MAGIC,
    OWN_NODE_ID,
    SELF,
    VERSION,
    WRONG_CLUSTER,
    WRONG_VERSION,
    Greeting,
    Handshake,
    Hello,
    Refusal,
)

SECRET = b"secret"
#: What every packet of this version begins with.
SPOKEN = MAGIC + bytes([VERSION])
_random = random.Random(7)


class OpenJudge:
    """Lets everyone in, or refuses with `refusal`; keeps whom it was asked about."""

    def __init__(self, refusal: Refusal | None = None, last: bytes = b"") -> None:
        self.refusal = refusal
        self.last = last
        self.asked: list[tuple[str, bytes]] = []

    def admit(self, peer: Hello, last_session: bytes) -> Refusal | None:
        self.asked.append((peer.greeting.node_id, last_session))
        return self.refusal

    def last_session(self, node_id: str) -> bytes:
        return self.last


def hello(node_id: str, *, cluster: str = "c1", process: bytes | None = None) -> Hello:
    greeting = Greeting(
        cluster,
        node_id,
        3,
        70,
        1,
        b"digest",
        f"{node_id}:1",
        "d",
        "r",
        "h",
        1,
        _random.randbytes(16),
    )
    return Hello(greeting, process or _random.randbytes(8))


def side(
    node_id: str,
    *,
    dialing: bool,
    secret: bytes = SECRET,
    judge: OpenJudge | None = None,
    own: Hello | None = None,
) -> Handshake:
    return Handshake(
        dialing=dialing, secret=secret, own=own or hello(node_id), judge=judge or OpenJudge()
    )


def converse(dialer: Handshake, acceptor: Handshake, piece: int = 1 << 20) -> None:
    """Carry bytes to and fro, in pieces, until nobody has anything to say."""
    sides = [acceptor, dialer]
    said = dialer.start()
    while said:
        answer = b"".join(
            [sides[0].receive(said[at : at + piece]) for at in range(0, len(said), piece)]
        )
        said = answer
        sides.reverse()


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_two_nodes_meet_however_the_bytes_are_cut(piece: int) -> None:
    judges = OpenJudge(last=b"earlier"), OpenJudge()
    dialer = side("a", dialing=True, judge=judges[0])
    acceptor = side("b", dialing=False, judge=judges[1])
    converse(dialer, acceptor, piece)
    assert (dialer.outcome, acceptor.outcome) == ("done", "done")
    assert dialer.peer is not None
    assert acceptor.peer is not None
    assert dialer.peer.greeting.node_id == "b"
    assert acceptor.peer.greeting.write_number == 70
    assert judges[0].asked == [("b", b"")]
    assert judges[1].asked == [("a", b"earlier")]


def test_both_derive_the_same_keys_and_no_two_connections_do() -> None:
    seen = set()
    for _ in range(20):
        dialer, acceptor = side("a", dialing=True), side("b", dialing=False)
        converse(dialer, acceptor)
        assert dialer.keys is not None
        assert acceptor.keys is not None
        assert dialer.keys.session == acceptor.keys.session
        assert dialer.keys.seed_out == acceptor.keys.seed_in
        assert dialer.keys.seed_in == acceptor.keys.seed_out
        seen |= {dialer.keys.seed_out, dialer.keys.seed_in, dialer.keys.session}
    assert len(seen) == 60


def test_what_follows_the_confirmation_is_kept() -> None:
    dialer, acceptor = side("a", dialing=True), side("b", dialing=False)
    answer = acceptor.receive(dialer.start())
    confirmation = acceptor.receive(dialer.receive(answer))
    dialer.receive(confirmation + b"frames")
    assert dialer.outcome == "done"
    assert dialer.rest == b"frames"


def refused_pairs() -> dict[str, tuple[Handshake, Handshake]]:
    own = hello("a")
    refusal = Refusal(BEHIND, "older", 9, 99)
    return {
        WRONG_CLUSTER: (
            side("a", dialing=True),
            side("b", dialing=False, own=hello("b", cluster="c2")),
        ),
        OWN_NODE_ID: (side("a", dialing=True), side("a", dialing=False)),
        BAD_PROOF: (side("a", dialing=True), side("b", dialing=False, secret=b"other")),
        SELF: (side("a", dialing=True, own=own), side("a", dialing=False, own=own)),
        BEHIND: (side("a", dialing=True), side("b", dialing=False, judge=OpenJudge(refusal))),
        "behind, says the dialer": (
            side("a", dialing=True, judge=OpenJudge(refusal)),
            side("b", dialing=False),
        ),
    }


@pytest.mark.parametrize("code", refused_pairs())
def test_a_peer_is_refused_by_name_on_both_sides(code: str) -> None:
    dialer, acceptor = refused_pairs()[code]
    converse(dialer, acceptor)
    assert {dialer.outcome, acceptor.outcome} == {"refused", "refused_by_peer"}
    assert dialer.refusal == acceptor.refusal
    assert dialer.refusal is not None
    assert dialer.refusal.code == code.split(",")[0]
    if dialer.refusal.code == BEHIND:
        assert dialer.refusal.known_start == 9
        assert dialer.refusal.known_write_number == 99


def test_another_version_is_refused_by_name() -> None:
    dialer, acceptor = side("a", dialing=True), side("b", dialing=False)
    old = bytearray(dialer.start())
    old[4] = 0
    refusal = acceptor.receive(bytes(old) + b"whatever version 0 says next")
    assert acceptor.outcome == "refused"
    dialer.receive(refusal)
    assert dialer.outcome == "refused_by_peer"
    assert dialer.refusal is not None
    assert dialer.refusal.code == WRONG_VERSION


def test_nobody_is_judged_before_the_proof() -> None:
    judge = OpenJudge()
    acceptor = side("b", dialing=False, judge=judge)
    converse(side("a", dialing=True, secret=b"other"), acceptor)
    converse(side("a", dialing=True), side("b", dialing=False, secret=b"other", judge=judge))
    assert judge.asked == []


def refusal_packet(refusal: Refusal) -> bytes:
    body = msgspec.msgpack.encode((refusal, b""))
    return SPOKEN + bytes([5]) + len(body).to_bytes(2) + body


def test_a_refusal_that_tells_facts_is_not_believed_without_a_proof() -> None:
    for code in (BEHIND, SELF, "duplicate", "ring_differs"):
        dialer = side("a", dialing=True)
        dialer.receive(refusal_packet(Refusal(code, "liar", 1 << 40, 1 << 40)))
        assert dialer.outcome == "garbage"
    dialer = side("a", dialing=True)
    dialer.receive(refusal_packet(Refusal(WRONG_CLUSTER, "no", 1 << 40, 1 << 40)))
    assert dialer.refusal == Refusal(WRONG_CLUSTER, "no", 0, 0)


def test_who_is_called_believes_no_refusal_without_a_proof_but_that_of_another_secret() -> None:
    for code in ("wrong_cluster", "wrong_version", "own_node_id", BAD_PROOF):
        called = side("b", dialing=False)
        called.receive(refusal_packet(Refusal(code, "liar")))
        assert called.outcome == "garbage"
        called = side("b", dialing=False)
        called.receive(side("a", dialing=True).start())
        called.receive(refusal_packet(Refusal(code, "liar", 1 << 40)))
        if code != BAD_PROOF:
            assert called.outcome == "garbage"
        else:
            assert called.refusal == Refusal(code, "the secrets of the two nodes differ")


STRANGERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "zeros": bytes(8),
    "almost": b"DYNX\x01\x01\x00\x00",
    "too long": SPOKEN + b"\x01" + (BODY_BYTES_MAX + 1).to_bytes(2),
    "no hello": SPOKEN + b"\x01\x00\x01\xc0",
    "proof first": SPOKEN + b"\x03\x00\x00",
    "confirmation first": SPOKEN + b"\x04\x00\x00",
    "unknown packet": SPOKEN + b"\x09\x00\x00",
}


@pytest.mark.parametrize("data", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("dialing", [True, False])
def test_what_is_no_node_is_garbage(data: bytes, dialing: bool) -> None:
    handshake = side("a", dialing=dialing)
    assert handshake.receive(data) == b""
    assert handshake.outcome == "garbage"


def test_frames_before_the_handshake_is_done_are_garbage() -> None:
    dialer, acceptor = side("a", dialing=True), side("b", dialing=False)
    assert acceptor.receive(dialer.start() + b"frames") == b""
    assert acceptor.outcome == "garbage"
    acceptor = side("b", dialing=False)
    proof = dialer.receive(acceptor.receive(dialer.start()))
    assert acceptor.receive(proof + b"frames") == b""
    assert acceptor.outcome == "garbage"


def test_a_recorded_handshake_opens_nothing() -> None:
    """A thief who recorded all of a dialer's words cannot use them: the nonces are new."""
    dialer, acceptor = side("a", dialing=True), side("b", dialing=False)
    first = dialer.start()
    proof = dialer.receive(acceptor.receive(first))
    assert acceptor.receive(proof)
    again = side("b", dialing=False)
    again.receive(first)
    again.receive(proof)
    assert again.outcome == "refused"
    assert again.refusal is not None
    assert again.refusal.code == BAD_PROOF


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_ends_without_an_exception_and_never_in_done(data: st.DataObject) -> None:
    dialer, acceptor = side("a", dialing=True), side("b", dialing=False)
    damaged = data.draw(st.integers(0, 3))
    sides, said = [acceptor, dialer], dialer.start()
    for turn in range(4):
        if turn == damaged:
            broken = bytearray(said)
            bit = data.draw(st.integers(0, len(said) * 8 - 1))
            broken[bit // 8] ^= 1 << bit % 8
            said = bytes(broken)
        said = sides[0].receive(said)
        sides.reverse()
    assert (dialer.outcome, acceptor.outcome) != ("done", "done")


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_end_without_an_exception(noise: bytes, dialing: bool, magic: bool) -> None:
    handshake = side("a", dialing=dialing)
    handshake.receive((SPOKEN if magic else b"") + noise)
    assert handshake.outcome in ("pending", "garbage", "refused", "refused_by_peer")


def test_the_secret_is_not_printed() -> None:
    handshake = side("a", dialing=True, secret=b"hunter2")
    assert "hunter2" not in repr(handshake)
