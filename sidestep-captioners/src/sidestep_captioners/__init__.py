"""Caption, lyrics and metadata providers for sidestep."""
