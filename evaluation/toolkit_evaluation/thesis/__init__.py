"""The thesis's figures and cross-sections."""
