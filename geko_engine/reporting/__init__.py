"""What a run reports, and to whom: events, the console, trackers."""
