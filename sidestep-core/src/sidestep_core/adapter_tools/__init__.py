"""Work on saved adapters: add, shrink, compare and measure them, or make one from two models."""
