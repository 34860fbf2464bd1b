"""How one node is set up: defaults, below a configuration file, below flags.

Decides only: reads no file, asks no network, and knows nothing of argparse. `Settings` is what one
source says (None where it is silent), `NodeConfig` what came of all of them, checked.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Literal, get_args

import msgspec

from dynamo.cluster_file import (
    DEFAULT_CLASS,
    DEVELOPMENT,
    REPLICAS_DEFAULT,
    ClusterFile,
    check_cluster,
)
from dynamo.errors import ConfigError
from dynamo.strict_toml import decode_toml
from ring.member import Member, check_member

HTTP_DEFAULT: Final = "127.0.0.1:8098"
RPC_DEFAULT: Final = "127.0.0.1:7400"
VALUE_BYTES_DEFAULT: Final = 1 << 20
VALUE_BYTES_MAX: Final = 8 << 20
BYTES_MAX: Final = (1 << 63) - 1
HINT_WINDOW_DEFAULT: Final = 3 * 3600
HINT_BYTES_DEFAULT: Final = 1 << 30
HANDOFF_RATE_DEFAULT: Final = 16 << 20
EXCHANGE_INTERVAL_DEFAULT: Final = 10
EXCHANGE_INTERVAL_REMOTE_DEFAULT: Final = 60
#: What clients' requests are given by default: no write is under way for longer.
EXCHANGE_DEADLINE_DEFAULT: Final = 10
EXCHANGE_KEYS_DEFAULT: Final = 20_000
EXCHANGE_RATE_DEFAULT: Final = 16 << 20
REAP_AFTER_DEFAULT: Final = 60
MEASURE_ONE_IN_DEFAULT: Final = 32
REQUESTS_DEFAULT: Final = 1024
REQUEST_BYTES_DEFAULT: Final = 64 << 20
COUNT_MAX: Final = 1_000_000_000

LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: Final[tuple[str, ...]] = get_args(LogLevel)
LogFormat = Literal["text", "json"]
LOG_FORMATS: Final[tuple[str, ...]] = get_args(LogFormat)
#: The logger of requests, apart from the others, so that whoever asks for them gets them at any level.
ACCESS_LOGGER: Final = "dynamo.access"

#: Where one can listen, and nobody can dial.
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - refused here, not bound
_BYTES = re.compile(r"(\d{1,19})\s*(?:([KMGT])(i?)B?|B)?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"
):
    """What one source (the file, or the flags) says; the names in TOML are those of the flags."""

    node_id: str | None = None
    data_dir: str | None = None
    http: str | None = None
    rpc: str | None = None
    peers: tuple[str, ...] | None = None
    datacenter: str | None = None
    rack: str | None = None
    host: str | None = None
    weight: int | None = None
    cluster: str | None = None
    classes: dict[str, int] | None = None
    free_space_min: int | str | None = None
    value_bytes_max: int | str | None = None
    hint_window: int | None = None
    hint_bytes_max: int | str | None = None
    handoff_rate: int | str | None = None
    exchange_interval: int | None = None
    exchange_interval_remote: int | None = None
    exchange_deadline: int | None = None
    exchange_keys: int | None = None
    exchange_rate: int | str | None = None
    exchange_window: str | None = None
    reap_after: int | None = None
    requests_max: int | None = None
    request_bytes_max: int | str | None = None
    log_level: str | None = None
    log_format: str | None = None
    access_log: bool | None = None
    fault_injection: bool | None = None
    read_repair: bool | None = None
    hints: bool | None = None
    measure_one_in: int | None = None


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One node, ready to start.

    `http`, `rpc`: where it listens, "host:port"; port 0 of `http` is any free one. `address`: where
    peers dial it today, "host:port". `ring_address`: what the cluster file says of that, "" for the
    same. `peers`: addresses to dial, without its own. `host`: "" for the host part of that.
    `free_space_min`: bytes below which writes are refused; None for the larger of 256 MiB and 2 %
    of the file system. `development`: no cluster file, the fixed identity, loopback only.
    `access_log`: a log line for every request. `hint_window`: seconds for which hints are taken for
    an absent member. `hint_bytes_max`: what all hints may take. `handoff_rate`: bytes of hints
    delivered in a second. `exchange_interval`: seconds from an exchange of hash trees with one peer of
    the own datacenter to that with the next, 0 for none; `exchange_interval_remote`: with peers of
    others. `exchange_deadline`: seconds after which no write is under way any more, from one look at a
    difference to the next. `exchange_keys`, `exchange_rate`: keys looked at and bytes moved by them in
    a second. `exchange_window`: hours of the day (UTC) in which they run, "22:00-06:00", "" for all.
    `reap_after`: seconds that a tombstone is left alone. `requests_max`, `request_bytes_max`: of
    clients, carried out at once. `fault_injection`: delays and cuts of its messages can be asked for.
    `read_repair`: reads repair replicas that are behind; without it only where a client waits for that.
    `hints`: writes are kept for members that are down or miss them, and are handed over.
    `measure_one_in`: of so many reads, and of so many writes, one is measured.
    """

    node_id: str
    data_dir: str
    http: str
    rpc: str
    address: str
    peers: tuple[str, ...]
    datacenter: str
    rack: str
    host: str
    weight: int
    cluster: ClusterFile
    development: bool
    free_space_min: int | None
    value_bytes_max: int
    log_level: LogLevel
    log_format: LogFormat = "text"
    access_log: bool = False
    ring_address: str = ""
    hint_window: int = HINT_WINDOW_DEFAULT
    hint_bytes_max: int = HINT_BYTES_DEFAULT
    handoff_rate: int = HANDOFF_RATE_DEFAULT
    exchange_interval: int = EXCHANGE_INTERVAL_DEFAULT
    exchange_interval_remote: int = EXCHANGE_INTERVAL_REMOTE_DEFAULT
    exchange_deadline: int = EXCHANGE_DEADLINE_DEFAULT
    exchange_keys: int = EXCHANGE_KEYS_DEFAULT
    exchange_rate: int = EXCHANGE_RATE_DEFAULT
    exchange_window: str = ""
    reap_after: int = REAP_AFTER_DEFAULT
    requests_max: int = REQUESTS_DEFAULT
    request_bytes_max: int = REQUEST_BYTES_DEFAULT
    fault_injection: bool = False
    read_repair: bool = True
    hints: bool = True
    measure_one_in: int = MEASURE_ONE_IN_DEFAULT


def parse_settings(text: str) -> Settings:
    """The settings of a configuration file's text. Raises ConfigError that names the field."""
    return decode_toml(text, Settings)


def merge_settings(under: Settings, over: Settings) -> Settings:
    """`over` where it says something, else `under`."""
    said = {
        name: value for name, value in msgspec.structs.asdict(over).items() if value is not None
    }
    return msgspec.structs.replace(under, **said)


def build_config(settings: Settings, cluster: ClusterFile | None) -> NodeConfig:
    """The node of these settings; `cluster` is what the file of `settings.cluster` holds, or None.

    Raises ConfigError for whatever is missing, out of range or at odds with the cluster file.
    """
    data_dir = settings.data_dir
    if not data_dir:
        raise ConfigError("there is no data directory: give --data-dir DIR")
    if cluster is not None and settings.classes:
        raise ConfigError("classes: they come from the cluster file; leave out --class")
    settings = _place(settings, cluster)
    http = settings.http or HTTP_DEFAULT
    rpc = settings.rpc or RPC_DEFAULT
    split_address(http, "http")
    if split_address(rpc, "rpc")[1] == 0:
        raise ConfigError(f"rpc: {rpc!r} has no port that peers can dial")
    member = cluster.member(settings.node_id or "") if cluster is not None else None
    listed = member.address if member is not None else rpc
    address = _reached_at(rpc, listed)
    peers = _peers(settings.peers, cluster, (address, listed))
    if cluster is None:
        _check_loopback(http, rpc, peers)
    elif member is None:
        _check_dialable(rpc)
    node = Member(
        id=_said(settings.node_id, rpc),
        address=listed,
        datacenter=_said(settings.datacenter, "dc1"),
        rack=_said(settings.rack, "rack1"),
        host=_said(settings.host, ""),
        weight=1 if settings.weight is None else settings.weight,
    )
    _check_node(node)
    return NodeConfig(
        node_id=node.id,
        data_dir=data_dir,
        http=http,
        rpc=rpc,
        address=address,
        peers=peers,
        datacenter=node.datacenter,
        rack=node.rack,
        host=node.host,
        weight=node.weight,
        cluster=cluster or _development(settings.classes, members=len(peers) + 1),
        development=cluster is None,
        free_space_min=_free_space(settings.free_space_min),
        value_bytes_max=_value_bytes(settings.value_bytes_max),
        log_level=_log_level(settings.log_level),
        log_format=_log_format(settings.log_format),
        access_log=bool(settings.access_log),
        ring_address="" if listed == address else listed,
        hint_window=_count("hint-window", settings.hint_window, HINT_WINDOW_DEFAULT, lowest=0),
        hint_bytes_max=_bytes("hint-bytes-max", settings.hint_bytes_max, HINT_BYTES_DEFAULT, 0),
        handoff_rate=_bytes("handoff-rate", settings.handoff_rate, HANDOFF_RATE_DEFAULT, 1),
        exchange_interval=_count(
            "exchange-interval", settings.exchange_interval, EXCHANGE_INTERVAL_DEFAULT, lowest=0
        ),
        exchange_interval_remote=_count(
            "exchange-interval-remote",
            settings.exchange_interval_remote,
            EXCHANGE_INTERVAL_REMOTE_DEFAULT,
            lowest=0,
        ),
        exchange_deadline=_count(
            "exchange-deadline", settings.exchange_deadline, EXCHANGE_DEADLINE_DEFAULT, lowest=1
        ),
        exchange_keys=_count(
            "exchange-keys", settings.exchange_keys, EXCHANGE_KEYS_DEFAULT, lowest=1
        ),
        exchange_rate=_bytes("exchange-rate", settings.exchange_rate, EXCHANGE_RATE_DEFAULT, 1),
        exchange_window=_window(settings.exchange_window),
        reap_after=_count("reap-after", settings.reap_after, REAP_AFTER_DEFAULT, lowest=0),
        requests_max=_count("requests-max", settings.requests_max, REQUESTS_DEFAULT, lowest=1),
        request_bytes_max=_bytes(
            "request-bytes-max", settings.request_bytes_max, REQUEST_BYTES_DEFAULT, 1 << 20
        ),
        fault_injection=bool(settings.fault_injection),
        read_repair=settings.read_repair is not False,
        hints=settings.hints is not False,
        measure_one_in=_count(
            "measure-one-in", settings.measure_one_in, MEASURE_ONE_IN_DEFAULT, lowest=1
        ),
    )


_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


def _window(text: str | None) -> str:
    """Raises ConfigError for what are no hours of the day."""
    if text and (_WINDOW.fullmatch(text) is None or text[:5] == text[6:]):
        raise ConfigError(f"exchange-window: {text!r} is not HH:MM-HH:MM, such as 22:00-06:00")
    return text or ""


def split_address(text: str, field: str) -> tuple[str, int]:
    """(host, port) of "host:port" or "[v6]:port"; port 0..65535. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not colon
        or not bare
        or (":" in bare) != (bare is not host)
        or not re.fullmatch(r"\d{1,5}", port, re.ASCII)
        or int(port) > 65_535
        or not bare.isprintable()
        or any(c in bare for c in " /[]@,=")
        or not _is_resolvable(bare)
    ):
        raise ConfigError(f"{field}: {text!r} is not HOST:PORT")
    return bare, int(port)


def _is_resolvable(host: str) -> bool:
    """False for a name that no resolver takes: an empty label, or one of more than 63 bytes."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def parse_bytes(text: int | str, field: str) -> int:
    """Bytes of 1048576, "1MiB", "1M" (both 1024 * 1024) or "1MB" (10 ** 6). Raises ConfigError."""
    if isinstance(text, int):
        size = text
    else:
        match = _BYTES.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{field}: {text!r} is not a number of bytes, such as 256MiB")
        unit = (match[2] or "").upper()
        decimal = bool(unit) and not match[3] and text.strip()[-1] in "bB"
        size = int(match[1]) * (1000 if decimal else 1024) ** _POWERS[unit]
    if not 0 <= size <= BYTES_MAX:
        raise ConfigError(f"{field}: {size} is not in 0..{BYTES_MAX}")
    return size


def is_loopback(host: str) -> bool:
    """True for localhost, 127.0.0.0/8 and ::1; other names are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _place(settings: Settings, cluster: ClusterFile | None) -> Settings:
    """The settings with what the cluster file's member entry says of this node filled in."""
    if cluster is None or not cluster.members:
        return settings
    member = _member(settings, cluster)
    for name, agreed in (
        ("datacenter", member.datacenter),
        ("rack", member.rack),
        ("host", member.host),
        ("weight", member.weight),
    ):
        said = getattr(settings, name)
        if said is not None and said != agreed:
            raise ConfigError(
                f"{name}: {said!r} was given, but the cluster file says {agreed!r} "
                f"for member {member.id!r}"
            )
    return msgspec.structs.replace(
        settings,
        node_id=member.id,
        rpc=settings.rpc or member.address,
        datacenter=member.datacenter,
        rack=member.rack,
        host=member.host,
        weight=member.weight,
    )


def _member(settings: Settings, cluster: ClusterFile) -> Member:
    known = ", ".join(member.id for member in cluster.members)
    if settings.node_id is not None:
        member = cluster.member(settings.node_id)
        if member is None:
            raise ConfigError(
                f"node-id: {settings.node_id!r} is no member of the cluster file, which has {known}"
            )
        return member
    if settings.rpc is None:
        raise ConfigError(f"which member is this node? give --node-id, one of {known}")
    for member in cluster.members:
        if member.address == settings.rpc:
            return member
    raise ConfigError(
        f"rpc: no member of the cluster file has the address {settings.rpc}; "
        f"give --node-id, one of {known}"
    )


def _reached_at(rpc: str, listed: str) -> str:
    """Where peers dial a node that listens at `rpc` and is listed so: where it listens, if others can
    mean the same by that; the rest learn it by gossip."""
    host = split_address(rpc, "rpc")[0]
    is_wildcard = host in _WILDCARDS
    only_here = is_loopback(host) and not is_loopback(split_address(listed, "rpc")[0])
    return listed if is_wildcard or only_here else rpc


def _peers(
    said: tuple[str, ...] | None, cluster: ClusterFile | None, own: tuple[str, str]
) -> tuple[str, ...]:
    if said is None:
        said = tuple(member.address for member in cluster.members) if cluster is not None else ()
    for address in said:
        if split_address(address, "peers")[1] == 0:
            raise ConfigError(f"peers: {address!r} has no port that can be dialled")
    return tuple(address for address in dict.fromkeys(said) if address not in own)


def _check_loopback(http: str, rpc: str, peers: tuple[str, ...]) -> None:
    for field, address in (("http", http), ("rpc", rpc), *(("peers", peer) for peer in peers)):
        if not is_loopback(split_address(address, field)[0]):
            raise ConfigError(
                f"{field}: {address} is not a loopback address, and without a cluster file nodes "
                "share a secret that everybody knows; run `dynamo init --cluster FILE` and give "
                "every node --cluster FILE"
            )


def _check_dialable(rpc: str) -> None:
    host = split_address(rpc, "rpc")[0]
    if host in _WILDCARDS:
        raise ConfigError(
            f"rpc: peers cannot dial {rpc}; give the address they see, or list the members in "
            "the cluster file (`dynamo init --member`)"
        )


def _check_node(node: Member) -> None:
    try:
        check_member(node)
    except ValueError as error:
        raise ConfigError(f"node {node.id!r}: {error}") from None


def _development(classes: dict[str, int] | None, *, members: int) -> ClusterFile:
    # One or two nodes are enough to try things on: the default class shrinks to fit them.
    said = tuple((classes or {DEFAULT_CLASS: min(REPLICAS_DEFAULT, members)}).items())
    cluster = msgspec.structs.replace(DEVELOPMENT, classes=said)
    check_cluster(cluster)
    return cluster


def _said(value: str | None, default: str) -> str:
    return default if value is None else value


def _free_space(said: int | str | None) -> int | None:
    return None if said is None else parse_bytes(said, "free-space-min")


def _value_bytes(said: int | str | None) -> int:
    if said is None:
        return VALUE_BYTES_DEFAULT
    size = parse_bytes(said, "value-bytes-max")
    if not 1 <= size <= VALUE_BYTES_MAX:
        raise ConfigError(f"value-bytes-max: {size} is not in 1..{VALUE_BYTES_MAX} (8 MiB)")
    return size


def _count(field: str, said: int | None, default: int, *, lowest: int) -> int:
    if said is None:
        return default
    if isinstance(said, bool) or not lowest <= said <= COUNT_MAX:
        raise ConfigError(f"{field}: {said!r} is not in {lowest}..{COUNT_MAX}")
    return said


def _bytes(field: str, said: int | str | None, default: int, lowest: int) -> int:
    if said is None:
        return default
    size = parse_bytes(said, field)
    if size < lowest:
        raise ConfigError(f"{field}: {size} is below {lowest} bytes")
    return size


def _log_level(said: str | None) -> LogLevel:
    match said:
        case None:
            return "info"
        case "debug" | "info" | "warning" | "error":
            return said
        case _:
            raise ConfigError(f"log-level: {said!r} is not one of {', '.join(LOG_LEVELS)}")


def _log_format(said: str | None) -> LogFormat:
    match said:
        case None:
            return "text"
        case "text" | "json":
            return said
        case _:
            raise ConfigError(f"log-format: {said!r} is not one of {', '.join(LOG_FORMATS)}")
