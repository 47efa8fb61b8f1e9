"""Which projections matter for a set of songs: Fisher information, effective ranks and the rank map made of both."""
