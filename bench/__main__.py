"""`python -m bench`: the same as the console script `dynamo-bench`."""

import sys

from bench.cli import main

sys.exit(main())
