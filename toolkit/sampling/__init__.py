"""Coded samplers: the contract, the shared random numbers, the ladder that they code."""
