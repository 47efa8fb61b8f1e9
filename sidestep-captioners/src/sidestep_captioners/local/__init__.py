"""Models that describe songs on this machine."""
