"""The page of an evaluation: sentences, tables and charts of its report."""
