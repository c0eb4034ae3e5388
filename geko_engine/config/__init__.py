"""Settings of a run: how one is declared, the sections, presets, YAML. Knows no model, no record and no file but YAML."""
