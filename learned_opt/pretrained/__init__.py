"""Weights that ship with the package: `.npz` beside `.json`, never pickles."""
