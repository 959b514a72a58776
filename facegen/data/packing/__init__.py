"""`facegen pack`: any pictures into an archive; start with pack.py."""
