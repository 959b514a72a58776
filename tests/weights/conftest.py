"""Being here, it puts this folder where tests find `pickle_writers` and its neighbors."""
