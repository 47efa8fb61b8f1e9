"""Exporters for sidestep: adapters in the form other programs load, each with a proof."""
