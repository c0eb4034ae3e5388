"""The form: its fields, their values, and their export as YAML, command and Python. Knows no layout."""
