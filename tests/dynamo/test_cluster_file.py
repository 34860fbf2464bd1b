"""The cluster file's text: what is read back is what was written, and slips are one clear line."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from dynamo.cluster_file import (
    DEVELOPMENT,
    ClusterFile,
    check_cluster,
    new_cluster,
    parse_class,
    parse_cluster,
    parse_member,
    render_cluster,
)
from dynamo.errors import ConfigError
from ring.member import Member
from ring.ring import CLASSES_MAX, DATACENTERS_MAX

MEMBERS = (
    Member("a", "10.0.0.1:7400", "dc1", "r1", "h1", 2),
    Member("b", "10.0.0.2:7400", "dc1", "r2"),
    Member("c", "[fd00::3]:7400", "dc2", "r1", "", 0),
)


def entropy(size: int) -> bytes:
    return bytes(itertools.islice(itertools.cycle(range(1, 200)), size))


def cluster(**fields: object) -> ClusterFile:
    made = new_cluster(
        members=MEMBERS[:2],
        classes=[("default", 2), ("one copy", 1)],
        partitions=64,
        entropy=entropy,
    )
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize(
    "made",
    [
        cluster(),
        cluster(members=MEMBERS, id="a.b_c:d-9"),
        cluster(members=()),
        cluster(seed=0, partitions=1),
        cluster(seed=(1 << 32) - 1, classes=(('quote " \\ ü', 64),)),
        DEVELOPMENT,
    ],
)
def test_what_is_written_is_read_back(made: ClusterFile) -> None:
    assert parse_cluster(render_cluster(made)) == made


def test_a_new_cluster_draws_its_id_secret_and_seed() -> None:
    asked: list[int] = []

    def counted(size: int) -> bytes:
        asked.append(size)
        return bytes([len(asked)]) * size

    made = new_cluster(members=(), classes=(), partitions=256, entropy=counted)
    assert asked == [8, 32, 4]
    assert (made.id, made.secret, made.seed) == ("01" * 8, b"\x02" * 32, 0x03030303)
    assert made.classes == (("default", 3),)


def test_the_secret_is_never_shown() -> None:
    made = cluster()
    for text in (repr(made), str(made), f"{made}"):
        assert made.secret.hex() not in text
        assert repr(made.secret) not in text
    text = render_cluster(made).replace(made.secret.hex(), made.secret.hex()[:-2] + "xy")
    with pytest.raises(ConfigError) as caught:
        parse_cluster(text)
    assert made.secret.hex()[:16] not in caught.value.message


GOOD = render_cluster(cluster())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "format: 2 is not 1"),
        ("format = 1\n", "", "it misses the required field format"),
        ("seed =", "sed =", "there is an unknown field sed"),
        ("partitions = 64", "partitions = true", "partitions: expected int, got bool"),
        ("partitions = 64", 'partitions = "64"', "partitions: expected int, got str"),
        ("partitions = 64", "partitions = 64.0", "partitions: expected int, got float"),
        ("partitions = 64", "partitions = 60", "partitions: 60 is not a power of two"),
        ("partitions = 64", "partitions = 131072", "partitions: 131072 is not a power of two"),
        ("partitions = 64", "partitions = 0", "partitions: 0 is not"),
        ("replicas = 2", "replicas = 0", "replicas 0 is not in 1..64"),
        ("replicas = 2", "colour = 1, replicas = 2", "unknown field colour"),
        ('name = "one copy"', 'name = "default"', "class names: default occurs twice"),
        ('name = "one copy"', 'name = ""', "the name is not 1..255 bytes"),
        ('name = "one copy"', 'name = "a\\u0007"', "cannot be printed"),
        ('id = "b"', 'id = "a"', "member ids: a occurs twice"),
        ('id = "b"', 'id = "b c"', "member 2 ('b c'): a member's id is"),
        ("10.0.0.2:7400", "10.0.0.1:7400", "member addresses: 10.0.0.1:7400 occurs twice"),
        ("10.0.0.2:7400", "10.0.0.2", "the address of b is host:port"),
        ("10.0.0.2:7400", "0.0.0.0:7400", "member 2 ('b'): peers cannot dial 0.0.0.0:7400"),
        ("10.0.0.2:7400", "[::]:7400", "member 2 ('b'): peers cannot dial [::]:7400"),
        ("seed = ", "seed = " + "1" * 5000, "there is a number with too many digits"),
        ("seed = ", "x = " + "[" * 100_000 + "\nseed = ", "it nests too deeply"),
        ("seed = ", "x = " + "{a=" * 5_000 + "\nseed = ", "it nests too deeply"),
        ("weight = 2", "weight = -1", "the weight of a"),
        ("weight = 2", "weight = 2.5", "member[0].weight: expected int, got float"),
        ("seed = ", "seed = -", "seed: -"),
        ("seed = ", "seed = 1000", "is not in 0..4294967295"),
        ('secret = "', 'secret = "00', "secret: it has 33 bytes, not 32"),
        ('secret = "', 'secret = "z', "secret: it is not hexadecimal"),
        ("format = 1", "format = ", "it is not TOML"),
        ("format = 1", "format = 1\nformat = 1", "it is not TOML"),
    ],
)
def test_a_slip_is_one_line_that_names_the_field(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_cluster(GOOD.replace(old, new, 1))
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_no_file_asks_for_more_than_a_ring_can_hold() -> None:
    many = tuple((f"c{i}", 1) for i in range(CLASSES_MAX + 1))
    with pytest.raises(ConfigError, match=r"class: there are 257, not 1\.\.256"):
        check_cluster(cluster(classes=many))
    check_cluster(cluster(classes=many[1:]))
    apart = tuple(Member(f"n{i}", f"h:{i + 1}", f"dc{i}") for i in range(DATACENTERS_MAX + 1))
    with pytest.raises(ConfigError, match=r"member: there are 65 datacenters, not 1\.\.64"):
        check_cluster(cluster(members=apart))
    check_cluster(cluster(members=apart[1:]))


@pytest.mark.parametrize("made", ["", "a" * 65, "a b", "ü", "a\n"])
def test_an_id_is_plain(made: str) -> None:
    with pytest.raises(ConfigError, match=r"^id: "):
        check_cluster(cluster(id=made))


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("a=h:1", Member("a", "h:1")),
        ("a=h:1,dc2", Member("a", "h:1", "dc2")),
        ("a=h:1,dc2,r9,box,7", Member("a", "h:1", "dc2", "r9", "box", 7)),
        ("a=[::1]:1,,r9,,0", Member("a", "[::1]:1", "dc1", "r9", "", 0)),
    ],
)
def test_a_member_is_read_from_the_command_line(text: str, member: Member) -> None:
    assert parse_member(text) == member


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "=h:1", "a=", "a=h", "a=h:x", "a=h:1,d c", "a=h:1,d,r,h,x", "a=h:1,d,r,h,-1"),
        *("a=h:1,d,r,h,1,2", "a=h:1,d,r,h,9999999999", "a b=h:1", "a=h:1,d,r,h,²"),
    ],
)
def test_a_member_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="member"):
        parse_member(text)


def test_a_class_is_read_from_the_command_line() -> None:
    assert parse_class("carts=5") == ("carts", 5)
    assert parse_class("a=b=5") == ("a=b", 5)


@pytest.mark.parametrize("text", ["", "carts", "carts=", "=3", "carts=x", "carts=0", "carts=65"])
def test_a_class_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="class"):
        parse_class(text)


@pytest.mark.parametrize(
    ("members", "replicas", "refused"),
    [
        (MEMBERS[:2], 2, ""),
        (MEMBERS[:2], 3, "datacenter 'dc1' has only 2"),
        ((), 3, ""),
        # c has no weight: it owns nothing, so dc2 has no owner at all.
        (MEMBERS, 1, "datacenter 'dc2' has only 0"),
    ],
)
def test_more_replicas_than_owners_are_refused(
    members: tuple[Member, ...], replicas: int, refused: str
) -> None:
    def make() -> ClusterFile:
        return new_cluster(
            members=members, classes=[("default", replicas)], partitions=8, entropy=entropy
        )

    if not refused:
        assert make().members == members
        return
    with pytest.raises(ConfigError) as caught:
        make()
    assert refused in caught.value.message
