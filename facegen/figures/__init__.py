"""Grids, strips and plots."""
