"""What the papers claim, number by number, and what follows from our results."""
