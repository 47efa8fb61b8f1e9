"""From songs to descriptions: what providers are asked, how answers are read, and what becomes of them."""
