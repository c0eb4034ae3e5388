"""Rows to token ids: files, formats, tokenization, batches. Knows no model."""
