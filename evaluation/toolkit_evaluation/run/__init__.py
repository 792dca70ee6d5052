"""A run: what is to be done, workers that do it, results that survive anything."""
