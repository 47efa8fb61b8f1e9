"""The components the core brings itself, registered through the same entry point as everyone's."""
