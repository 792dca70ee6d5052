"""Samplers that cut a level into blocks: base class, layouts, shared codebooks."""
