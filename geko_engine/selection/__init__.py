"""Which samples get compute: a library of its own on numpy alone. Knows no torch, no loop and no screen."""
