"""Training: recipe, data, optimiser, loop, export. Imports torch; the rest of the host doesn't."""
