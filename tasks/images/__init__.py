"""Image sets, and the tasks made of them."""
