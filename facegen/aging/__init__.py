"""Age transfer: how a face is aged, top to bottom in `transfer.py` and the files beside it."""
