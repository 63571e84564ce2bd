"""Runs looked at, one or several side by side: a page, live while they go on, and a comparison."""
