"""python -m geko_engine = geko-train."""

import sys

from geko_engine.cli import main

sys.exit(main())
