"""A whole suite: who takes part, cells, report, figures, page."""
