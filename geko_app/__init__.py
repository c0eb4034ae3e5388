"""The no-code page of GEKO. Reaches torch only inside the worker process."""
