"""A run that never was, with all that an analysis can hold: reports and comparisons are tried on it."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import msgspec

from bench.figures import wilson
from bench.findings import (
    Agreement,
    Analysis,
    Anomaly,
    Availability,
    Bin,
    Check,
    Convergence,
    Curve,
    Health,
    Judged,
    Latency,
    Origin,
    Quantile,
    Rate,
    Score,
    Second,
    SetFull,
    Staleness,
    Window,
    Zones,
)
from bench.history import Event, Machine, Manifest, Op
from bench.pbs.agreement import CurveAgreement
from bench.pbs.prediction import Prediction
from bench.report.material import Material, Predicted

BEGIN = 5_000_000_000_000
SECOND = 1_000_000_000


def rate(count: int, of: int) -> Rate:
    low, high = wilson(count, of)
    return Rate(count=count, of=of, low=low, high=high)


def made_manifest(**changes: Any) -> Manifest:
    manifest = Manifest(
        run="8c1f03d2",
        scenario_name="partition-heal",
        target="nodes",
        seed=7,
        commit="e0158b6f5d0c2b7f6b1a7c8d9e0f1a2b3c4d5e6f",
        versions={"dynamo": "0.1.0", "python": "3.12.4", "numpy": "2.4.6"},
        machine=Machine(system="Linux 6.1 x86_64", cores=8, python="3.12.4", load_before=0.31),
        clock="CLOCK_MONOTONIC",
        began_at=BEGIN - 2 * SECOND,
        began_wall="2026-03-14T09:26:53Z",
        measured=(BEGIN, BEGIN + 30 * SECOND),
        nodes=("n1", "n2", "n3"),
        replicas=3,
        scenario={
            "name": "partition-heal",
            "told": "One node is cut off for ten seconds; then all must be equal again.",
            "workload": "visibility",
            "load": {"loop": "open", "arrivals": "poisson", "rate": 400.0, "sessions": 16},
            "cluster": {"nodes": 3, "n": 3, "properties": {"r": 1, "w": 1}},
        },
        operations=60,
        cpu_seconds=11.2,
        lag_ms_p99=0.41,
        lag_ms_max=3.2,
    )
    return msgspec.structs.replace(manifest, **changes)


def share_fresh(t: float) -> float:
    return 1 - 0.58 * math.exp(-t / 9)


def made_curve(chance: random.Random, origin: Origin = "coordinator commit") -> Curve:
    edges = [0.0, *(0.1 * 10 ** (i / 6) for i in range(20))]
    plot, total, fresh = [], 0, 0
    fitted = 0.0
    for low, high in itertools.pairwise(edges):
        middle, of = (low + high) / 2, chance.randrange(300, 1500)
        share = share_fresh(middle if origin == "coordinator commit" else middle + 0.8)
        count = sum(chance.random() < share for _ in range(of))
        fitted = max(fitted, count / of)
        total, fresh = total + of, fresh + count
        plot.append(
            Bin(from_ms=low, to_ms=high, middle_ms=middle, fresh=rate(count, of), fitted=fitted)
        )
    quantiles = tuple(
        Quantile(p=p, t_ms=t, low_ms=t and t * 0.93, high_ms=high)
        for p, t, high in (
            (0.5, 1.3, 1.5),
            (0.9, 15.8, 17.1),
            (0.99, 36.6, 41.0),
            (0.999, 57.1, None),
        )
    )
    return Curve(
        origin=origin,
        r=1,
        w=1,
        reads=total,
        writes=total // 4,
        fresh=rate(fresh, total),
        plot=tuple(plot),
        fine=(),
        quantiles=quantiles,
        left_out={"failed": 211, "before any commit": 4},
    )


def made_prediction(r: int, w: int, sampling: str, scale: float = 1.0) -> Predicted:
    strict = r + w > 3

    def fresh(t: float) -> float:
        return 1.0 if strict else 1 - (1 - share_fresh(t * scale)) ** (r + w - 1)

    return Predicted(
        prediction=Prediction(
            model="measured (/admin/wars)",
            n=3,
            r=r,
            w=w,
            sampling=sampling,
            fan_out="store",
            coordinator="replica",
            trials=1_000_000,
            seed=7,
            p_fresh={t: fresh(float(t)) for t in ("0", "5", "10", "50")},
            t_ms={"50": 1.34, "90": 15.8 / scale, "99": 36.6 / scale, "99.9": None},
            read_latency_ms={"50": 0.4, "99.9": 12.0},
            write_latency_ms={"50": 1.1, "99.9": 31.0},
            curve=tuple((t / 2, fresh(t / 2)) for t in range(400)),
        ),
        agreement=CurveAgreement(
            verdict="pass",
            told="clock from coordinator commit",
            sampling=sampling,
            one_sided=False,
            bins=199,
            reads=48_000,
            rmse_points=0.62,
            floor_points=0.77,
            bound_points=1.16,
            t99_measured=36.6,
            t99_predicted=36.6 / scale,
        )
        if (r, w) == (1, 1)
        else None,
    )


def made_predictions() -> tuple[Predicted, ...]:
    samplings = (("iid", 0.9), ("per replica", 1.0), ("whole vectors", 1.06))
    return tuple(
        made_prediction(r, w, sampling, scale)
        for sampling, scale in samplings
        for r in (1, 2, 3)
        for w in (1, 2, 3)
    )


def made_latency(kind: str, measure: Any, base: float, count: int, tail: float) -> Latency:
    ranks = [100 * (1 - 10 ** (-i / 12)) for i in range(56)]
    spectrum = tuple(
        (p, base * (1 + 0.4 * (i / 12)) + tail * (i / 40) ** 6) for i, p in enumerate(ranks)
    )

    def at(p: float) -> float:
        return next(ms for rank, ms in spectrum if rank >= p)

    ms = {name: at(float(name)) for name in ("50", "90", "99", "99.9")} | {"max": spectrum[-1][1]}
    return Latency(kind=kind, measure=measure, count=count, ms=ms, spectrum=spectrum)


def made_seconds(chance: random.Random) -> tuple[Second, ...]:
    found = []
    for second in range(-1, 30):
        cut = 10 <= second < 20
        fail = chance.randrange(20, 60) if cut else 0
        reads = chance.randrange(280, 340)
        found.append(
            Second(
                second=second,
                ok=chance.randrange(370, 430) - fail,
                fail=fail,
                unknown=chance.randrange(0, 6) if cut else 0,
                reads=reads,
                stale=chance.randrange(60, 90) if cut else chance.randrange(3, 14),
                p50_ms=chance.uniform(0.8, 1.2) * (1.4 if cut else 1),
                p99_ms=chance.uniform(4, 9) * (40 if cut else 1),
            )
        )
    return tuple(found)


def made_operations(key: str) -> dict[int, Op]:
    operations = {}
    for i in range(20):
        at = BEGIN + (10 + i // 2) * SECOND + i * 7_100_000
        session, written = i % 16, 900 + i
        operations[3 * i + 1] = Op(
            n=3 * i + 1, session=session, kind="write", key=key, intended=at, start=at + 90_000,
            end=at + 2_400_000, outcome="ok", write=written, bases=(written - 1,), w=1,
            coordinator="n1", began=at + 300_000, committed=at + 2_000_000,
        )  # fmt: skip
        operations[3 * i + 2] = Op(
            n=3 * i + 2, session=session, kind="read", key=key, intended=at + 9_000_000,
            start=at + 9_000_000, end=at + 10_200_000, outcome="ok", seen=(written - 1,), r=1,
            coordinator="n3", target="n3", offset=6_600_000,
        )  # fmt: skip
        operations[3 * i + 3] = Op(
            n=3 * i + 3, session=session, kind="write", key=key, intended=at, start=at,
            end=at + 400_000_000, outcome="unknown", write=written + 500, w=1, coordinator="n2",
            why="timeout: no answer within 0.4 s",
        )  # fmt: skip
    return operations


def made_anomalies(key: str) -> tuple[Anomaly, ...]:
    kinds = ("stale read", "read your writes", "monotonic reads", "lost acknowledged write")
    return tuple(
        Anomaly(
            kind=kinds[i % 4],
            op=3 * i + 2,
            key=key,
            at=BEGIN + (10 + i // 2) * SECOND + i * 7_100_000,
            severity_ms=9_400.0 / (i + 1),
            told=f"returned write {899 + i}, which write {900 + i} had replaced before it began",
            evidence=(3 * i + 1, 3 * i + 2, 3 * i + 3),
        )
        for i in range(20)
    )


def made_analysis(seed: int = 1, key: str = "visibility/0000412") -> Analysis:
    chance = random.Random(seed)
    names = ("read your writes", "monotonic reads", "monotonic writes", "writes follow reads")
    fates = ((312, 8_120), (41, 9_431), (0, 5_002), (0, 0))
    return Analysis(
        run="8c1f03d2",
        scenario="partition-heal",
        target="nodes",
        curves=(made_curve(chance), made_curve(chance, "client commit")),
        staleness=Staleness(reads=24_000, counts=(21_480, 1_730, 512, 160, 71, 22, 8, 3), beyond=14),
        checks=(
            *(
                Check(
                    name=name,
                    verdict="unknown" if not of else "fail" if count else "pass",
                    violations=rate(count, of),
                    keys=rate(min(count, 96), min(of, 1_000)),
                    told="" if of else "the workload reads no pairs of keys",
                )
                for name, (count, of) in zip(names, fates, strict=True)
            ),
            Check(name="consistent prefix", verdict="pass", violations=rate(0, 1200), keys=rate(0, 12)),
            Check(name="safe", verdict="fail", violations=rate(1_100, 24_000), keys=rate(210, 1_000)),
            Check(
                name="regular", verdict="fail", violations=rate(2_520, 24_000), keys=rate(412, 1_000),
                examples=(2, 5, 8),
            ),
            Check(name="atomic", verdict="fail", violations=rate(430, 1_000), keys=rate(430, 1_000)),
            Check(
                name="lost acknowledged writes", verdict="pass", violations=rate(0, 11_904),
                keys=rate(0, 1_000),
            ),
        ),
        zones=Zones(
            keys=1_000,
            atomic=rate(570, 1_000),
            delta_ms={"50": 6.2, "90": 210.0, "99": 4_120.0, "max": 9_400.0},
            gamma_ms={"50": 5.1, "90": 180.0, "99": 3_700.0, "max": 8_900.0},
            scores=tuple(
                Score(
                    at=BEGIN + int(t * SECOND),
                    gamma_ms=chance.lognormvariate(2, 1) * (60 if 10 <= t < 20 else 1),
                    key=f"k{t}",
                )
                for t in sorted(chance.uniform(0, 30) for _ in range(120))
            ),
            over_budget=3,
        ),
        set_full=SetFull(
            attempted=2_000, acknowledged=1_951, known=1_960, lost=rate(0, 1_960),
            stale=rate(211, 1_960), never_read=3, unexpected=0,
            stable_ms={"50": 0.0, "95": 310.0, "99": 4_100.0, "max": 9_700.0},
            lost_elements=(),
        ),
        windows=(
            Window(
                origin="write start", writes=900, censored=4, ms={"50": 3.1, "90": 44.0, "99": 9_100.0}
            ),
        ),
        agreements=tuple(
            Agreement(after_ms=t, agreed=rate(int(2_000 * share_fresh(t)), 2_000))
            for t in (0.0, 1.0, 5.0, 10.0, 50.0)
        ),
        convergence=(
            Convergence(
                heal_at=BEGIN + 20 * SECOND,
                keys=1_000,
                unconverged=2,
                points=tuple((120.0 * i, 0.998 * (1 - math.exp(-i / 7))) for i in range(60)),
                ms={"50": 590.0, "90": 1_930.0, "99": 3_900.0},
                trees_equal_ms=7_400.0,
            ),
        ),
        availability=(
            Availability(
                kind="read", ok=rate(23_789, 24_000), fail=211, unknown=0, reasons={"timeout": 211}
            ),
            Availability(
                kind="write", ok=rate(11_904, 12_114), fail=150, unknown=60,
                reasons={"503 <quorum> not met": 150, "timeout": 60},
            ),
        ),
        latencies=tuple(
            made_latency(kind, measure, base * factor, 24_000, 400 * factor)
            for kind, base in (("read", 0.7), ("write", 1.6))
            for measure, factor in (("service", 1.0), ("response", 1.35), ("lag", 0.06))
        ),
        seconds=made_seconds(chance),
        anomalies=made_anomalies(key),
        events=(
            Event(
                kind="partition", at=BEGIN + 10 * SECOND, until=BEGIN + 20 * SECOND, nodes=("n3",),
                told="n3 is cut off from n1 and n2",
            ),
            Event(kind="pause", at=BEGIN + 14 * SECOND, until=BEGIN + 16 * SECOND, nodes=("n2",)),
            Event(kind="heal", at=BEGIN + 20 * SECOND),
            Event(kind="trees_equal", at=BEGIN + int(27.4 * SECOND)),
        ),
        health=Health(
            operations=48_211, dropped=0, in_flight_max=212, asked_rate=400.0, done_rate=399.2,
            lag_ms_p99=0.41, lag_ms_max=3.2, cpu_share=0.37, void="",
        ),
        judged=(
            Judged(expectation="converged: at least 100 %", verdict="fail", told="998 of 1,000 keys"),
            Judged(
                expectation="lost acknowledged writes: at most 0", verdict="pass",
                told="0 of 11,904; fewer than 0.025 % at 95 %",
            ),
            Judged(
                expectation="fresh in the end: at least 99.9 %", verdict="unknown",
                told="too few reads: 12",
            ),
        ),
    )  # fmt: skip


def made_material(seed: int = 1, key: str = "visibility/0000412") -> Material:
    return Material(
        manifest=made_manifest(),
        analysis=made_analysis(seed, key),
        predictions=made_predictions(),
        operations=made_operations(key),
        directory="runs/partition-heal",
    )


def empty_analysis(void: str = "") -> Analysis:
    return Analysis(
        run="8c1f03d2",
        scenario="probe",
        target="null",
        health=Health(
            operations=0, dropped=0, in_flight_max=0, asked_rate=None, done_rate=0.0,
            lag_ms_p99=0.0, lag_ms_max=0.0, cpu_share=0.0, void=void,
        ),
    )  # fmt: skip
