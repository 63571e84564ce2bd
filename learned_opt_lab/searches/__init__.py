"""Searches for a few numbers that make a theta."""
