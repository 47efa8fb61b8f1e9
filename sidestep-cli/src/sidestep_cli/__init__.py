"""The `sidestep` command."""
