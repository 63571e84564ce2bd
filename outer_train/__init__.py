"""How theta is trained: inner problems, unrolls, gradient estimators, the outer loop."""
