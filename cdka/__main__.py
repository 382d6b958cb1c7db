"""``python -m cdka``: the command line."""

import sys

from cdka.cli.main import main

sys.exit(main())
