"""Bytes on disk: the .qf container, weights files, and writing that is never half done."""
