"""Trellis coding of samples."""
