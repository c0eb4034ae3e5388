"""Models: loading, checks, LoRA, quantisation, precision, saving. Knows no data."""
