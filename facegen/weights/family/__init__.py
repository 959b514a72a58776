"""Weights of the StyleGAN family: files of other programs."""
