"""The base and the tuned model of a run, asked. Knows no training loop."""
