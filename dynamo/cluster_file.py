"""The identity of a cluster: its id, secret, hash seed, partitions, classes and first members.

The text is TOML, the same at every node, written once by `dynamo init` and never changed: all of it
is agreed for the life of the cluster. Reading is strict, so that a slip of the pen is one clear line
and not a node that hashes differently. Knows nothing of files, nodes or connections.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import tomli_w

from dynamo.errors import ConfigError
from dynamo.strict_toml import decode_toml
from ring.member import Member, check_member
from ring.partition import PARTITIONS_MAX
from ring.replication import CLASS_NAME_BYTES_MAX, REPLICAS_MAX
from ring.ring import CLASSES_MAX, DATACENTERS_MAX

FORMAT: Final = 1
SECRET_BYTES: Final = 32
SEED_MAX: Final = (1 << 32) - 1
PARTITIONS_DEFAULT: Final = 256
DEFAULT_CLASS: Final = "default"
REPLICAS_DEFAULT: Final = 3

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
#: Where one can listen, and nobody can dial.
_WILDCARDS: Final = ("0.0.0.0", "[::]")  # noqa: S104 - refused here, not bound
_HEADER = """\
# The identity of one Dynamo cluster. Every node needs this very file.
# It holds the cluster's secret: keep it readable to its owner only.
# Nothing in it can be changed once a node has started with it.

"""


class ClusterFile(msgspec.Struct, frozen=True, kw_only=True):
    """What all nodes of a cluster agree on before they have met.

    `secret`: 32 bytes, never printed. `seed`: 32 bits, of the key hash. `partitions`: a power of
    two. `classes`: (name, replicas per datacenter); a class's id is its index here. `members`: of
    epoch 1, or empty if they are what the nodes' `--peers` say.
    """

    id: str
    secret: bytes
    seed: int
    partitions: int = PARTITIONS_DEFAULT
    classes: tuple[tuple[str, int], ...] = ((DEFAULT_CLASS, REPLICAS_DEFAULT),)
    members: tuple[Member, ...] = ()

    def __repr__(self) -> str:
        classes = " ".join(f"{name}={replicas}" for name, replicas in self.classes)
        members = ",".join(member.id for member in self.members) or "none"
        return f"ClusterFile({self.id} partitions={self.partitions} {classes} members={members})"

    def member(self, node_id: str) -> Member | None:
        """The member of that id, or None."""
        return next((member for member in self.members if member.id == node_id), None)


#: Used on loopback addresses when no cluster file is given. Not secret: it is printed here.
DEVELOPMENT: Final = ClusterFile(
    id="development",
    secret=b"a secret that everybody can read",
    seed=0x5EED5EED,
)


class _Class(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    replicas: int


class _Member(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    address: str
    datacenter: str = "dc1"
    rack: str = "rack1"
    host: str = ""
    weight: int = 1


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    id: str
    secret: str
    seed: int
    partitions: int
    classes: list[_Class] = msgspec.field(name="class")
    members: list[_Member] = msgspec.field(name="member", default_factory=list)


def new_cluster(
    *,
    members: Iterable[Member],
    classes: Iterable[tuple[str, int]],
    partitions: int,
    entropy: Callable[[int], bytes],
) -> ClusterFile:
    """A new identity; `entropy(n)` gives n random bytes.

    Raises ConfigError, also where a class asks for more replicas than a datacenter has members.
    """
    cluster = ClusterFile(
        id=entropy(8).hex(),
        secret=entropy(SECRET_BYTES),
        seed=int.from_bytes(entropy(4)),
        partitions=partitions,
        classes=tuple(classes) or ((DEFAULT_CLASS, REPLICAS_DEFAULT),),
        members=tuple(members),
    )
    check_cluster(cluster)
    _check_replicas_fit(cluster)
    return cluster


def parse_cluster(text: str) -> ClusterFile:
    """The cluster of a file's text. Raises ConfigError."""
    file = decode_toml(text, _File)
    if file.format != FORMAT:
        raise ConfigError(f"format: {file.format} is not {FORMAT}, the one this version reads")
    cluster = ClusterFile(
        id=file.id,
        secret=_secret(file.secret),
        seed=file.seed,
        partitions=file.partitions,
        classes=tuple((entry.name, entry.replicas) for entry in file.classes),
        members=tuple(Member(**msgspec.structs.asdict(entry)) for entry in file.members),
    )
    check_cluster(cluster)
    return cluster


def render_cluster(cluster: ClusterFile) -> str:
    """The file's text; `parse_cluster` of it is the same cluster."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "id": cluster.id,
        "secret": cluster.secret.hex(),
        "seed": cluster.seed,
        "partitions": cluster.partitions,
        "class": [{"name": name, "replicas": replicas} for name, replicas in cluster.classes],
        "member": [msgspec.structs.asdict(member) for member in cluster.members],
    }
    return _HEADER + tomli_w.dumps(document)


def check_cluster(cluster: ClusterFile) -> None:
    """Raises ConfigError that names the first field that cannot work."""
    if not _ID.fullmatch(cluster.id):
        raise ConfigError(f"id: {cluster.id!r} is not 1 to 64 of A-Z a-z 0-9 . _ : -")
    if len(cluster.secret) != SECRET_BYTES:
        raise ConfigError(f"secret: it has {len(cluster.secret)} bytes, not {SECRET_BYTES}")
    if not 0 <= cluster.seed <= SEED_MAX:
        raise ConfigError(f"seed: {cluster.seed} is not in 0..{SEED_MAX}")
    check_partitions(cluster.partitions)
    _check_classes(cluster.classes)
    for number, member in enumerate(cluster.members, 1):
        try:
            check_member(member)
        except ValueError as error:
            raise ConfigError(f"member {number} ({member.id!r}): {error}") from None
        if member.address.rpartition(":")[0] in _WILDCARDS:
            raise ConfigError(
                f"member {number} ({member.id!r}): peers cannot dial {member.address}; give the "
                "address they see (a node listens elsewhere with --rpc)"
            )
    _check_distinct("member ids", [member.id for member in cluster.members])
    _check_distinct("member addresses", [member.address for member in cluster.members])
    datacenters = len({member.datacenter for member in cluster.members})
    if datacenters > DATACENTERS_MAX:
        raise ConfigError(f"member: there are {datacenters} datacenters, not 1..{DATACENTERS_MAX}")


def check_partitions(partitions: int) -> None:
    """Raises ConfigError unless it is a power of two in 1..65536."""
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ConfigError(f"partitions: {partitions} is not a power of two in 1..{PARTITIONS_MAX}")


def parse_member(text: str) -> Member:
    """The member of `ID=HOST:PORT[,DATACENTER[,RACK[,HOST[,WEIGHT]]]]`. Raises ConfigError."""
    node_id, equals, rest = text.partition("=")
    parts = rest.split(",")
    if not equals or not parts[0] or len(parts) > 5:
        raise ConfigError(
            f"member {text!r} is not ID=HOST:PORT[,DATACENTER[,RACK[,HOST[,WEIGHT]]]]"
        )
    fields = dict(zip(("address", "datacenter", "rack", "host"), parts, strict=False))
    named = {name: value for name, value in fields.items() if value}
    weight = parts[4] if len(parts) == 5 and parts[4] else "1"
    if not weight.isascii() or not weight.isdecimal() or len(weight) > 9:
        raise ConfigError(f"member {text!r}: weight {weight!r} is not a whole number")
    member = Member(id=node_id, weight=int(weight), **named)
    try:
        check_member(member)
    except ValueError as error:
        raise ConfigError(f"member {text!r}: {error}") from None
    return member


def parse_class(text: str) -> tuple[str, int]:
    """(name, replicas) of `NAME=N`. Raises ConfigError."""
    name, equals, replicas = text.rpartition("=")
    if not equals or not replicas.isascii() or not replicas.isdecimal() or len(replicas) > 9:
        raise ConfigError(f"class {text!r} is not NAME=REPLICAS")
    _check_classes(((name, int(replicas)),))
    return name, int(replicas)


def _secret(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        # The text itself stays out of the message: it may be the secret with one slip.
        raise ConfigError("secret: it is not hexadecimal") from None


def _check_classes(classes: tuple[tuple[str, int], ...]) -> None:
    if not 1 <= len(classes) <= CLASSES_MAX:
        raise ConfigError(f"class: there are {len(classes)}, not 1..{CLASSES_MAX}")
    for name, replicas in classes:
        if not 1 <= len(name.encode(errors="surrogatepass")) <= CLASS_NAME_BYTES_MAX:
            raise ConfigError(f"class {name!r}: the name is not 1..{CLASS_NAME_BYTES_MAX} bytes")
        if not name.isprintable():
            raise ConfigError(f"class {name!r}: the name holds what cannot be printed")
        if not 1 <= replicas <= REPLICAS_MAX:
            raise ConfigError(f"class {name!r}: replicas {replicas} is not in 1..{REPLICAS_MAX}")
    _check_distinct("class names", [name for name, _ in classes])


def _check_distinct(what: str, names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ConfigError(f"{what}: {', '.join(twice)} occurs twice")


def _check_replicas_fit(cluster: ClusterFile) -> None:
    owners = Counter(member.datacenter for member in cluster.members if member.weight > 0)
    for datacenter in sorted({member.datacenter for member in cluster.members}):
        for name, replicas in cluster.classes:
            if replicas > owners[datacenter]:
                raise ConfigError(
                    f"class {name!r} asks for {replicas} replicas, but datacenter {datacenter!r} "
                    f"has only {owners[datacenter]} that own data; give --class {name}=N"
                )
