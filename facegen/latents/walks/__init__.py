"""Walks through the latent space: from face to face, through classes and ages, around loops, through truncation.

Start with `tours`: which walks options mean. `paths` goes from key to key, `loops` closes without keys, `easing` is how
a walk speeds up and slows down.
"""
