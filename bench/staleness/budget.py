"""How much work an analysis may do before it says "unknown". Pure data."""

from __future__ import annotations

import msgspec


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """`pairs`: conflicting zones of a key that are compared; beyond, it has no Delta and Gamma.
    `steps`: versions of a key that are walked over to see who descends from whom; beyond, its reads
    are left out, and counted. `cells`: of a set: elements x reads; beyond, reads are thinned out.
    `resamples`: of the bootstrap. `examples`: operations named with a check. `scores`: values
    whose Gamma is kept. `points`: of a curve that is drawn."""

    pairs: int = 500_000
    steps: int = 5_000_000
    cells: int = 100_000_000
    resamples: int = 200
    examples: int = 20
    scores: int = 500
    points: int = 200

    def scaled(self, factor: float) -> Budget:
        """So many times the work. Raises ValueError unless it is above 0 and finite."""
        if not 0 < factor <= 1e6:
            raise ValueError(f"a budget of {factor} is none: more than 0, at most 1,000,000")
        return msgspec.structs.replace(
            self,
            pairs=max(1, int(self.pairs * factor)),
            steps=max(1, int(self.steps * factor)),
            cells=max(1, int(self.cells * factor)),
            resamples=max(10, int(self.resamples * factor)),
        )
