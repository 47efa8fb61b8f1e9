"""Songs taken apart into vocals and instruments."""
