"""Measuring samplers on levels of latents."""
