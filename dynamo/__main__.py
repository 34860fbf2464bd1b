"""`python -m dynamo`: the same as the console script `dynamo`."""

import sys

from dynamo.cli import main

sys.exit(main())
