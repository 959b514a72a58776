"""Projection: from a picture to the latent that draws it; start with project.py."""
