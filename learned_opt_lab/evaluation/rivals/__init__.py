"""What people would pick today: optimizers with their published defaults and search spaces."""
