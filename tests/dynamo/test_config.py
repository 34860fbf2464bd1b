"""How defaults, a file and flags become one node, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from dynamo.cluster_file import DEVELOPMENT, ClusterFile
from dynamo.config import (
    NodeConfig,
    Settings,
    build_config,
    is_loopback,
    merge_settings,
    parse_bytes,
    parse_settings,
    split_address,
)
from dynamo.errors import ConfigError
from ring.member import Member

PEERS = ("127.0.0.1:7401", "127.0.0.1:7402")
LISTED = ClusterFile(
    id="c",
    secret=b"s" * 32,
    seed=7,
    classes=(("default", 2), ("wide", 3)),
    members=(
        Member("a", "10.0.0.1:7400", "dc1", "r1", "box1", 2),
        Member("b", "10.0.0.2:7400", "dc1", "r2"),
        Member("c", "10.0.0.3:7400", "dc2", "r1"),
    ),
)
OPEN = msgspec.structs.replace(LISTED, members=())


def config(cluster: ClusterFile | None = None, **said: object) -> NodeConfig:
    settings: Settings = msgspec.convert({"data-dir": "d", **_kebab(said)}, Settings)
    return build_config(settings, cluster)


def _kebab(said: dict[str, object]) -> dict[str, object]:
    return {name.replace("_", "-"): value for name, value in said.items()}


def refusal(cluster: ClusterFile | None = None, **said: object) -> str:
    with pytest.raises(ConfigError) as caught:
        config(cluster, **said)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_node_that_is_told_nothing_is_alone_on_loopback() -> None:
    node = config()
    assert node == NodeConfig(
        node_id="127.0.0.1:7400",
        data_dir="d",
        http="127.0.0.1:8098",
        rpc="127.0.0.1:7400",
        address="127.0.0.1:7400",
        peers=(),
        datacenter="dc1",
        rack="rack1",
        host="",
        weight=1,
        cluster=msgspec.structs.replace(DEVELOPMENT, classes=(("default", 1),)),
        development=True,
        free_space_min=None,
        value_bytes_max=1 << 20,
        log_level="info",
        log_format="text",
        access_log=False,
    )


@pytest.mark.parametrize(("peers", "replicas"), [(0, 1), (1, 2), (2, 3), (4, 3)])
def test_the_default_class_fits_the_nodes_there_are(peers: int, replicas: int) -> None:
    node = config(peers=[f"127.0.0.1:{7401 + i}" for i in range(peers)])
    assert node.cluster.classes == (("default", replicas),)


def test_a_file_is_below_the_flags_and_above_the_defaults() -> None:
    file = parse_settings('rpc = "127.0.0.1:1"\nhttp = "127.0.0.1:2"\nfree-space-min = "1MiB"')
    flags = Settings(data_dir="d", http="127.0.0.1:3", peers=())
    node = build_config(merge_settings(file, flags), None)
    assert (node.rpc, node.http, node.free_space_min) == ("127.0.0.1:1", "127.0.0.1:3", 1 << 20)
    assert node.log_level == "info"


def test_a_file_can_say_all_that_flags_can() -> None:
    text = """
        node-id = "x"
        data-dir = "/data"
        http = "127.0.0.1:1"
        rpc = "[::1]:2"
        peers = ["localhost:3"]
        datacenter = "east"
        rack = "r"
        host = "box"
        weight = 3
        free-space-min = 5
        value-bytes-max = "8MiB"
        log-level = "debug"
        [classes]
        default = 1
        carts = 2
    """
    node = build_config(parse_settings(text), None)
    assert (node.node_id, node.data_dir, node.peers) == ("x", "/data", ("localhost:3",))
    assert (node.datacenter, node.rack, node.host, node.weight) == ("east", "r", "box", 3)
    assert (node.free_space_min, node.value_bytes_max, node.log_level) == (5, 8 << 20, "debug")
    assert node.cluster.classes == (("default", 1), ("carts", 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight = true", "weight: expected int"),
        ('weight = "1"', "weight: expected int"),
        ("node_id = 'x'", "unknown field node_id"),
        ("free-space-min = 1.5", "free-space-min: expected"),
        ("peers = '127.0.0.1:1'", "peers: expected array, got str"),
        ("peers = [1]", "peers[0]: expected str, got int"),
        ("[classes]\ndefault = false", "classes[...]: expected int, got bool"),
        ("=", "it is not TOML"),
        ("weight = " + "9" * 5000, "a number with too many digits"),
        ("peers = " + "[" * 100_000, "it nests too deeply"),
    ],
)
def test_a_slip_in_a_file_names_the_field(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"data_dir": ""}, "there is no data directory"),
        ({"http": "8098"}, "http: '8098' is not HOST:PORT"),
        ({"rpc": "localhost:99999"}, "rpc: 'localhost:99999' is not HOST:PORT"),
        ({"rpc": "::1:7400"}, "rpc: '::1:7400' is not HOST:PORT"),
        ({"rpc": "127.0.0.1:0"}, "rpc: '127.0.0.1:0' has no port that peers can dial"),
        ({"http": "a..b:1"}, "http: 'a..b:1' is not HOST:PORT"),
        ({"peers": ["a" * 64 + ":1"]}, "is not HOST:PORT"),
        ({"node_id": ""}, "node '': a member's id is"),
        ({"peers": ["127.0.0.1:0"]}, "peers: '127.0.0.1:0' has no port"),
        ({"http": "0.0.0.0:8098"}, "http: 0.0.0.0:8098 is not a loopback address"),
        ({"rpc": "10.0.0.1:7400"}, "run `dynamo init --cluster FILE`"),
        ({"peers": ["db.example:7400"]}, "peers: db.example:7400 is not a loopback address"),
        ({"node_id": "a b"}, "node 'a b': a member's id is"),
        ({"rack": ""}, "the rack of"),
        ({"weight": -1}, "the weight of"),
        ({"value_bytes_max": "9MiB"}, "value-bytes-max: 9437184 is not in"),
        ({"value_bytes_max": 0}, "value-bytes-max: 0 is not in"),
        ({"free_space_min": "lots"}, "free-space-min: 'lots' is not a number of bytes"),
        ({"log_level": "loud"}, "log-level: 'loud' is not one of debug"),
        ({"log_format": "xml"}, "log-format: 'xml' is not one of text, json"),
        ({"classes": {"default": 0}}, "class 'default': replicas 0 is not in"),
    ],
)
def test_what_cannot_work_is_one_line(said: dict[str, object], message: str) -> None:
    assert message in refusal(None, **said)


def test_a_listed_node_takes_its_place_from_the_cluster_file() -> None:
    for said in ({"node_id": "a"}, {"rpc": "10.0.0.1:7400"}):
        node = config(LISTED, **said)
        assert (node.node_id, node.rpc, node.address) == ("a", "10.0.0.1:7400", "10.0.0.1:7400")
        assert (node.datacenter, node.rack, node.host, node.weight) == ("dc1", "r1", "box1", 2)
        assert node.peers == ("10.0.0.2:7400", "10.0.0.3:7400")
        assert node.cluster is LISTED
        assert not node.development


def test_a_listed_node_may_listen_elsewhere_than_where_it_is_dialled() -> None:
    node = config(LISTED, node_id="a", rpc="0.0.0.0:7400", http="0.0.0.0:8098")
    assert (node.rpc, node.address) == ("0.0.0.0:7400", "10.0.0.1:7400")
    assert "10.0.0.1:7400" not in node.peers


@pytest.mark.parametrize(
    ("rpc", "address"),
    [
        ("10.0.0.1:9", "10.0.0.1:9"),
        ("box1.example:7400", "box1.example:7400"),
        ("0.0.0.0:9", "10.0.0.1:7400"),
        ("[::]:9", "10.0.0.1:7400"),
        ("127.0.0.1:9", "10.0.0.1:7400"),
    ],
)
def test_a_listed_node_that_listens_elsewhere_is_dialled_there_if_others_can(
    rpc: str, address: str
) -> None:
    node = config(LISTED, node_id="a", rpc=rpc, peers=["10.0.0.2:7400", "10.0.0.1:7400", rpc])
    assert (node.rpc, node.address) == (rpc, address)
    assert (node.ring_address or node.address) == "10.0.0.1:7400"
    assert node.peers[:1] == ("10.0.0.2:7400",)
    assert address not in node.peers


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "give --node-id, one of a, b, c"),
        ({"node_id": "d"}, "'d' is no member of the cluster file, which has a, b, c"),
        ({"rpc": "10.0.0.9:7400"}, "no member of the cluster file has the address 10.0.0.9:7400"),
        ({"node_id": "a", "rack": "r2"}, "rack: 'r2' was given, but the cluster file says 'r1'"),
        ({"node_id": "a", "weight": 1}, "weight: 1 was given, but the cluster file says 2"),
        ({"node_id": "a", "classes": {"x": 1}}, "classes: they come from the cluster file"),
    ],
)
def test_what_is_at_odds_with_the_cluster_file_is_refused(
    said: dict[str, object], message: str
) -> None:
    assert message in refusal(LISTED, **said)


def test_without_listed_members_the_peers_are_those_of_the_flags() -> None:
    node = config(OPEN, rpc="10.0.0.1:7400", peers=["10.0.0.1:7400", "10.0.0.2:7400"] * 2)
    assert (node.node_id, node.peers) == ("10.0.0.1:7400", ("10.0.0.2:7400",))
    for nowhere in ("0.0.0.0:7400", "[::]:7400"):
        assert "peers cannot dial" in refusal(OPEN, rpc=nowhere, node_id="x")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("256MiB", 256 << 20),
        (" 256 mib ", 256 << 20),
        ("1k", 1024),
        ("1kB", 1000),
        ("2G", 2 << 30),
        ("2GB", 2 * 10**9),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_are_read_as_people_write_them(text: int | str, size: int) -> None:
    assert parse_bytes(text, "f") == size


@pytest.mark.parametrize(
    "text", ["", "x", "1.5M", "-1", "1PiB", "1iB", "M", "²", "9" * 19 + "T", -1]
)
def test_sizes_that_are_none_are_refused(text: int | str) -> None:
    with pytest.raises(ConfigError, match=r"^f: "):
        parse_bytes(text, "f")


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_known_without_asking_anybody(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


def test_addresses_are_split_with_their_brackets_off() -> None:
    assert split_address("h:0", "f") == ("h", 0)
    assert split_address("[::1]:65535", "f") == ("::1", 65535)
    for wrong in (
        "h",
        ":1",
        "h:",
        "h:x",
        "h:-1",
        "h:1 ",
        "[]:1",
        "[h]:1",
        "a/b:1",
        "a,b:1",
        "a=b:1",
    ):
        with pytest.raises(ConfigError, match=r"^f: "):
            split_address(wrong, "f")
