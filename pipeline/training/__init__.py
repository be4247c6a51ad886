"""How a model learns: batches, the loop, checkpoints."""
