"""Integers to bits and back: what samplers write into their streams."""
