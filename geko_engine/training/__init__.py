"""The loop: plan, steps, evaluation, checkpoints. Knows the selection policy, and no rule behind it."""
