"""The networks: StyleGAN2-ADA's generator and discriminator, and the latent encoder."""
