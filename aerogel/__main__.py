"""`python -m aerogel`."""

import sys

from aerogel.cli import main

sys.exit(main())
