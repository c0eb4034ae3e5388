"""Models: loading, checks, LoRA, quantization, precision, saving. Knows no data."""

from geko_engine.models.quiet import silence_bitsandbytes

silence_bitsandbytes()  # before anything here imports transformers, which may import bitsandbytes
