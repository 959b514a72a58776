"""Differentiable operations of the StyleGAN family: `bias_act`, `upfirdn2d`, `conv2d_resample`."""
