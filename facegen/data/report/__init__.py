"""The report on a training archive."""
