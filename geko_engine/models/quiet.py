"""Log messages of others that users cannot act on. Imports nothing that logs."""

from __future__ import annotations

import logging


def silence_bitsandbytes() -> None:
    """Drop two log messages of bitsandbytes that users cannot act on.

    One says at every multiplication that inputs are cast. The other says that kernels for 4-bit weights are missing,
    even where bitsandbytes is imported for a model without such weights: transformers imports peft, which imports it.
    """
    for module in ("autograd._functions", "backends.cpu.ops"):
        logging.getLogger(f"bitsandbytes.{module}").addFilter(_is_useful)


def _is_useful(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg) for words in ("inputs will be cast", "Failed to load CPU gemm_4bit"))
