"""Results as a page and as pictures."""
