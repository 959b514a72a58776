"""How good a generator's faces are: distances between sets of pictures, one file per metric."""
