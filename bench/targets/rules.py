"""What each node is to do to its messages while some faults are on, as `/admin/faults` takes it.

Of a partition both sides are cut, so that neither dials the other. Among delays the fault that began
last goes first, what holds from the begin comes last. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bench.faults import Fault

#: Of the verbs of `bench.faults`, those that are done to messages.
OF_MESSAGES: Final = ("slow", "partition")

Rule = dict[str, Any]


def rules_of(
    faults: Iterable[Fault], nodes: Sequence[str], slow: Mapping[str, Any]
) -> dict[str, list[Rule]]:
    """Node -> its rules. `faults`: of messages, in the order they began; `slow`: delays from the begin,
    leg -> distribution."""
    rules: dict[str, list[Rule]] = {node: [] for node in nodes}
    for fault in reversed(list(faults)):
        if fault.do == "partition":
            _cut(rules, [nodes[index] for index in fault.nodes], nodes)
        elif fault.slow is not None:
            peers = [nodes[index] for index in fault.peers]
            for index in fault.nodes or range(len(nodes)):
                own = nodes[index]
                rules[own] += _delays(fault.slow.legs, [peer for peer in peers if peer != own])
    for node in nodes:
        rules[node] += _delays(slow, [])
    return rules


def _cut(rules: dict[str, list[Rule]], apart: Sequence[str], nodes: Sequence[str]) -> None:
    others = [node for node in nodes if node not in apart]
    if not others:
        return
    for side, far in ((apart, others), (others, apart)):
        for node in side:
            rules[node].append({"peers": list(far), "drop": True})


def _delays(legs: Mapping[str, Any], peers: Sequence[str]) -> list[Rule]:
    return [{"peers": list(peers), "leg": leg, "delay": mix} for leg, mix in legs.items()]
