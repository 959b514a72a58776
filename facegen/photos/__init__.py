"""Read and write photos in the same format: metadata, colors, bit depth, and a mark that says what was done."""
