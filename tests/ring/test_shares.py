"""Shares follow the weights until the rules of spread stop a node."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ring.member import Member
from ring.shares import fair_shares, quotas
from ring.site import Site, grouped


def _site(spots: list[tuple[int, int, int]]) -> Site:
    return Site(
        [
            Member(f"n{n}", f"a{n}:7400", rack=f"r{rack}", host=f"r{rack}h{host}", weight=weight)
            for n, (rack, host, weight) in enumerate(spots)
        ]
    )


SPOTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=16
)


@given(SPOTS, st.sampled_from([1, 8, 256]), st.integers(1, 4))
def test_no_node_could_have_more_but_for_those_that_have_less(
    spots: list[tuple[int, int, int]], partitions: int, replicas: int
) -> None:
    site = _site(spots)
    replicas = min(replicas, len(site))
    shares = fair_shares(site, partitions, replicas)
    assert sum(shares) == partitions * replicas
    ratios = [share / weight for share, weight in zip(shares, site.weights, strict=True)]
    groups = [[node] for node in range(len(site))]
    if site.machine_count >= replicas:
        groups += grouped(site.hosts)
    if len(set(site.racks)) >= replicas:
        groups += grouped(site.racks)
    for nodes in groups:
        assert sum(shares[node] for node in nodes) <= partitions
    # The mark of max-min fairness: whoever is below the top has a full group that it leads.
    for node, ratio in enumerate(ratios):
        assert ratio == max(ratios) or any(
            node in nodes
            and sum(shares[other] for other in nodes) == partitions
            and ratio == max(ratios[other] for other in nodes)
            for nodes in groups
        )


@given(SPOTS, st.sampled_from([1, 8, 256]), st.integers(1, 4), st.data())
def test_quotas_round_shares_and_the_sums_of_hosts_and_racks(
    spots: list[tuple[int, int, int]], partitions: int, replicas: int, data: st.DataObject
) -> None:
    site = _site(spots)
    replicas = min(replicas, len(site))
    shares = fair_shares(site, partitions, replicas)
    held = data.draw(st.lists(st.integers(0, 300), min_size=len(site), max_size=len(site)))
    quota = quotas(site, shares, held)
    assert sum(quota) == partitions * replicas
    for nodes in [[n] for n in range(len(site))] + grouped(site.hosts) + grouped(site.racks):
        share: Fraction = sum((shares[node] for node in nodes), Fraction(0))
        assert sum(quota[node] for node in nodes) < share + 1
    assert all(count > share - 1 for count, share in zip(quota, shares, strict=True))


def test_who_holds_more_is_rounded_up() -> None:
    site = _site([(0, 0, 1), (0, 1, 1), (0, 2, 1)])
    shares = fair_shares(site, 256, 1)
    assert quotas(site, shares, [85, 86, 85]) == [85, 86, 85]
    assert quotas(site, shares, [85, 85, 86]) == [85, 85, 86]
