"""The latent space of a generator: draw, walk, project, mix, move and blend; a file per idea.

Start with `seeds` (a seed's z), `labels` (which class), `mapping` (z and class to w, truncation) and `drawing` (w to
pictures). Everything else is made of these.
"""
