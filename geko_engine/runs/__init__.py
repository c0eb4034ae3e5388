"""A run on disk: its folder, its writer, its stop flag, its samples. Knows no loop."""
