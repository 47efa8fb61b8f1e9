"""The training loop and its parts, in the order they happen: data, step, optimizer, checkpoints."""
