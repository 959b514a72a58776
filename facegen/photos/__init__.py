"""A photo's file in, the same kind of file out: its notes, its colors, its depth, and a mark of what was done to it."""
