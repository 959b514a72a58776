"""Faces in photos: finding, measuring and aligning them."""
