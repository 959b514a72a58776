"""The commands that train: `facegen train`, `train-encoder`, `train-age`, `train-editor`."""
