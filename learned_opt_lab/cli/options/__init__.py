"""A dataclass as the options of a command: its fields, what may be written for them, the help."""
