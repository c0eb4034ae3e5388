"""Running the base and the tuned model of a run. Knows no training loop."""
