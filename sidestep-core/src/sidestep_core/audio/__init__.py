"""Audio files: reading any of them as 48 kHz stereo, and setting their loudness."""
