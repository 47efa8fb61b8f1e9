"""Finished training tensors: an index, and one file for each song's latents and for each conditioning."""
