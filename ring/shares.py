"""How many partitions each node should own: fair by weight, within what keeps replicas apart.

Nodes are numbered as in `ring.site`. Knows nothing of which partitions they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from ring.site import Site, grouped, scrambled


def fair_shares(site: Site, partitions: int, replicas: int) -> list[Fraction]:
    """Each node's exact share of `partitions` x `replicas` slots; needs replicas <= nodes.

    Shares grow with the weights until a node, or its host where there are hosts enough for every
    replica, or its rack where there are racks enough, holds each partition once; it then stands
    still while the others take the rest (weighted max-min fairness).
    """
    members_of = _capped_groups(site, replicas)
    groups_of: list[list[int]] = [[] for _ in range(len(site))]
    for group, nodes in enumerate(members_of):
        for node in nodes:
            groups_of[node].append(group)
    growing = [sum(site.weights[node] for node in nodes) for nodes in members_of]
    settled = [Fraction(0)] * len(members_of)
    shares: list[Fraction | None] = [None] * len(site)
    left, weight_left = Fraction(partitions * replicas), sum(site.weights)
    while True:
        full_at = {
            group: (partitions - settled[group]) / weight
            for group, weight in enumerate(growing)
            if weight
        }
        level = min(full_at.values())
        if left <= level * weight_left:
            level = left / weight_left
            return [
                level * site.weights[node] if share is None else share
                for node, share in enumerate(shares)
            ]
        for full in [group for group, at in full_at.items() if at == level]:
            for node in members_of[full]:
                if shares[node] is not None:
                    continue
                weight = site.weights[node]
                share = shares[node] = level * weight
                left -= share
                weight_left -= weight
                for group in groups_of[node]:
                    settled[group] += share
                    growing[group] -= weight


def _capped_groups(site: Site, replicas: int) -> list[list[int]]:
    """The sets of nodes that may hold a partition only once."""
    groups = [[node] for node in range(len(site))]
    if site.machine_count >= replicas:
        groups += grouped(site.hosts)
    if len(set(site.racks)) >= replicas:
        groups += grouped(site.racks)
    return groups


def quotas(site: Site, shares: Sequence[Fraction], held: Sequence[int]) -> list[int]:
    """The shares in whole slots, each rounded up or down, with the same sum.

    Hosts and racks are rounded up at most too. Who holds more than the lower number now is rounded
    up first, so that nothing moves for the sake of rounding.
    """
    result = [int(share) for share in shares]
    missing = int(sum(shares)) - sum(result)
    host_room, rack_room = (
        [
            ceil(sum(shares[node] for node in nodes)) - sum(result[node] for node in nodes)
            for nodes in grouped(groups)
        ]
        for groups in (site.hosts, site.racks)
    )
    broken = [node for node, share in enumerate(shares) if share != result[node]]
    # Greedy is exact: sets that nest (node, host, rack) with a room each are a laminar matroid.
    for node in sorted(broken, key=lambda node: (held[node] <= result[node], scrambled(node))):
        host, rack = site.hosts[node], site.racks[node]
        if missing and host_room[host] and rack_room[rack]:
            missing -= 1
            host_room[host] -= 1
            rack_room[rack] -= 1
            result[node] += 1
    assert not missing
    return result
