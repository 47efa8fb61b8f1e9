"""The data doctor: what is wrong with a set of songs, before it costs a night of training."""
