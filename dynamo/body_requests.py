"""Whom a read has asked for the record itself, and whom it asks next, of several that hold the same.

Pure: what is chosen is returned. Knows nothing of time or of who sends.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dynamo.read_tally import ReadTally


class BodyRequests(msgspec.Struct):
    """Of one read. `asked`: for their record. `twice`: for it while their digest was awaited, so two
    answers are to come."""

    asked: set[str] = set()
    twice: set[str] = set()

    def ask(self, targets: Sequence[str], open_: set[str]) -> None:
        """They are asked for their record. `open_`: whose answer is awaited."""
        self.asked.update(targets)
        self.twice.update(open_.intersection(targets))

    def missing(self, tally: ReadTally, wanting: Sequence[str], open_: set[str]) -> list[str]:
        """Whom to ask now for what is on its way from nobody."""
        waited_for = self.asked & open_
        if tally.has_body:
            return self._one_of_each(tally, wanting, {tally.digest_of(node) for node in waited_for})
        # The replica that was asked is lost: one of those that answered has it.
        return [] if waited_for else self._one_of_each(tally, wanting, set())[:1]

    def others(self, tally: ReadTally) -> list[str]:
        """Whom to ask for what does not come from those who were asked."""
        return self._one_of_each(tally, tally.wanting(), set())

    def _one_of_each(
        self, tally: ReadTally, wanting: Sequence[str], on_the_way: set[bytes | None]
    ) -> list[str]:
        """Of each record that is wanted and not on its way, one node that was not asked yet."""
        found: list[str] = []
        for node in wanting:
            digest = tally.digest_of(node)
            if node not in self.asked and digest not in on_the_way:
                on_the_way.add(digest)
                found.append(node)
        return found
