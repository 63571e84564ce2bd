"""What the papers showed: one file a figure or table."""
