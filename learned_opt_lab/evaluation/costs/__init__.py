"""What an evaluation will cost, the order of its cells, and how long it still takes."""
