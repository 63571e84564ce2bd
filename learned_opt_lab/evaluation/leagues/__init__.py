"""Two leagues that are never mixed: nobody tunes, and equal budgets."""
