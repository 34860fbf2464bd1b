"""`python -m dynamo.sim`: run a seed, search for seeds that fail, shrink what failed."""

import sys

from dynamo.sim.cli import main

# Worker processes import this file too.
if __name__ == "__main__":
    sys.exit(main())
