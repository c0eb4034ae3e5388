"""Atomic file writes, and free space on the disk."""
