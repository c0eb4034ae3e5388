"""Worker processes (training, preview, inference), what starts and follows them, and downloads of models."""
