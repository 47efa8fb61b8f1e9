"""What other programs write beside songs, and how it becomes sidecars."""
