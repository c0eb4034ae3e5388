"""Runs on disk as the page reads them: store, queue, live state, summary."""
