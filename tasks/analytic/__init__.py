"""Tasks with formulas: quadratics, least squares, surfaces."""
