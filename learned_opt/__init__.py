"""How it is optimized: learned optimizers as Optax transformations."""
