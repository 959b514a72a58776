"""Being here, it puts this folder where tests find `weight_server` and its neighbors."""
