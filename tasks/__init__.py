"""What is optimized: tasks, task families, data sets."""
