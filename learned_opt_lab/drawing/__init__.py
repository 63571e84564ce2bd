"""Figures, and text fit to be shown."""
