"""Saved adapters of every program: found, described and read as one update for each adapted module, and written."""
