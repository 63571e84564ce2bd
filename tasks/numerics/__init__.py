"""Numbers that tasks need: random words, rotations, numbers of twice the precision."""
