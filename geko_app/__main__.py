"""python -m geko_app = geko-app."""

import sys

from geko_app.cli import main

sys.exit(main())
