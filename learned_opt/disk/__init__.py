"""What is on the disk: files written whole or not at all, read within bounds, and the format of a theta."""
