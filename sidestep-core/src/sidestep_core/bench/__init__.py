"""Measuring training on the user's machine: steps, what else takes time, and the same work done in other ways."""
