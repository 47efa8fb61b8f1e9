"""Offline analysis of songs: tempo, time signature and key, without weights and without a network."""
