"""Models: loading, checks, LoRA, quantization, precision, saving. Knows no data."""
