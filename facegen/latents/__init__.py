"""The latent space: from an encoder's guess to a face."""
