"""Results on disk: cells, folders, and what they follow from."""
