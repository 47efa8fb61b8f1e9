"""Pictures of runs: what is drawn (light) and how (matplotlib)."""
