"""Runs on disk as the page reads them: list, queue, live state, summary."""
