"""Optimizers: each module makes one. They are imported when a run uses them."""
