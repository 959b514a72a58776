"""The editor's training."""
