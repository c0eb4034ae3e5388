"""One forward pass -> the loss, correctness and confidence of each sample. Knows no rule."""
