"""Where the simulator's randomness comes from: a stream of its own for each purpose.

What one part draws must not change what another gets. Knows nothing of who draws.
"""

from __future__ import annotations

import hashlib
import random

_Random = random.Random


def stream(seed: int, *names: object) -> random.Random:
    """The random stream of `seed` that is called `names`; the same one in every process.

    Names are told apart by their text: "1" and 1 are one name, ("a", "b") and ("ab",) are two.
    """
    text = "\0".join(map(str, (seed, *names)))
    return _Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big"))
