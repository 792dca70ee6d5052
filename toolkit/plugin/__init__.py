"""What plugins are made of: hooks, descriptors, how they are found, and presets."""
