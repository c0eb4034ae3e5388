"""What can be known before a run starts: names, access, memory, time, what the model sees."""
