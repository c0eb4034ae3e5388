"""python -m geko_engine.export = geko-export."""

import sys

from geko_engine.export.command import main

sys.exit(main())
