"""What starts, judges, searches and compares runs of outer-training."""
