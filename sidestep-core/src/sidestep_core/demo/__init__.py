"""The whole way on a tiny model and little songs: what a newcomer sees first, and what shows that an install works."""
