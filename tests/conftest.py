"""For all tests: property tests are reproducible and have no deadline (no test asserts a time)."""

from hypothesis import settings

settings.register_profile("geko", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("geko")
