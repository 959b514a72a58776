"""Reading and writing network weights."""
