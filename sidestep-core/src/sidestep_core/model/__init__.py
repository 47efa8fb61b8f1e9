"""ACE-Step models: what is on disk (light modules), and loading and running it (heavy ones)."""
