"""Entropy models that send samples: ladders of Gaussians, whatever their depth. Imports torch."""
