"""Age transfer: how a face is aged. Read `transfer.py` first."""
