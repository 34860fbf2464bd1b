"""Small histories written down by hand: operations in milliseconds, one call each."""

from __future__ import annotations

from typing import Any

from bench.history import Event, Line, Machine, Manifest, Op, Outcome

MS = 1_000_000


class Made:
    """Lines as they are added; numbers are given in that order, times are milliseconds."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def write(
        self,
        version: int,
        start: float,
        end: float,
        *,
        key: str = "k",
        outcome: Outcome = "ok",
        **rest: Any,
    ) -> Op:
        """A write of `version`."""
        return self._add(
            kind="write", key=key, start=start, end=end, outcome=outcome, write=version, **rest
        )

    def read(
        self,
        seen: int | tuple[int, ...],
        start: float,
        end: float,
        *,
        key: str = "k",
        outcome: Outcome = "ok",
        **rest: Any,
    ) -> Op:
        """A read; `seen` 0 for nothing."""
        versions = seen if isinstance(seen, tuple) else (seen,) if seen else ()
        return self._add(
            kind="read", key=key, start=start, end=end, outcome=outcome, seen=versions, **rest
        )

    def event(self, kind: str, at: float, **rest: Any) -> None:
        """Something done to the cluster."""
        self.lines.append(Event(kind=kind, at=round(at * MS), **rest))

    def _add(self, *, start: float, end: float, **rest: Any) -> Op:
        rest.setdefault("session", 1)
        due = rest.pop("due", start)
        for stamp in ("began", "committed", "offset"):
            if stamp in rest:
                rest[stamp] = round(rest[stamp] * MS)
        op = Op(
            n=len(self.lines) + 1,
            intended=round(due * MS),
            start=round(start * MS),
            end=round(end * MS),
            **rest,
        )
        self.lines.append(op)
        return op


def manifest(
    *, target: str = "nodes", properties: dict[str, Any] | None = None, **rest: Any
) -> Manifest:
    """Of a run of one second on three nodes."""
    scenario = {
        "name": "made",
        "cluster": {"properties": properties or {}},
        **rest.pop("scenario", {}),
    }
    given = {
        "run": "r1",
        "scenario_name": "made",
        "target": target,
        "seed": 1,
        "commit": "",
        "versions": {},
        "machine": Machine(system="", cores=1, python="", load_before=0.0),
        "clock": "virtual",
        "began_at": 0,
        "began_wall": "",
        "measured": (0, 1_000 * MS),
        "nodes": ("a", "b", "c"),
        "replicas": 3,
        "scenario": scenario,
    }
    return Manifest(**{**given, **rest})


REGISTER = {"allow_mult": False}
