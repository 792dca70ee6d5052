"""Samplers that draw exactly from their target."""
