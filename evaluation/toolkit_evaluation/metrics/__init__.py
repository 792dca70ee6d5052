"""Metrics of a decoded image against its original."""
