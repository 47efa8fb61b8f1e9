"""From songs and captions to training tensors, in two passes that hold one model each."""
