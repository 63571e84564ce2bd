"""What can be named: the command `list`, and names whose own tables need JAX."""
