"""`python -m ops.cli`."""

import sys

from ops.cli import main

sys.exit(main())
