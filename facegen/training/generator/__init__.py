"""Training the generator: StyleGAN2-ADA."""
