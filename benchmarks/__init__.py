"""Measurements of GEKO against its peers and against itself. Nothing here asserts a time; see README.md.

Threads are settled here, before torch is imported: one thread that does not spin while it waits, so that ratios hold
on a machine that has other work too. MALLOC_MMAP_THRESHOLD_ reaches only child processes: with it glibc gives freed
blocks back at once, so their resident memory is what was in use and not what the heap kept.
"""

import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "1000000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)  # it looks for optional kernels when it is imported
