"""What every training shares: its folder, its end, its processes."""
