"""Settings of a run: declarations, sections, presets, YAML. Knows no models and no sample records."""
