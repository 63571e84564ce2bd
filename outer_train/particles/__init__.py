"""What estimators stand on: particles, their noise and unrolls, and moments over all devices."""
