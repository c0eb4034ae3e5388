"""For all tests: reproducible property tests without a deadline, and a cache of their own (no test asserts a time)."""

import os
import tempfile

from hypothesis import settings

settings.register_profile("geko", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("geko")
# Child processes inherit it; the user's own cache is neither read nor filled.
os.environ.setdefault("GEKO_CACHE", tempfile.mkdtemp(prefix="geko-cache-"))
