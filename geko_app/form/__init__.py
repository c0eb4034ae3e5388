"""The form: its fields, their values, and the same in YAML, command and Python. Knows no layout."""
