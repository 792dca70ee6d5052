"""Pictures and synthetic latents to measure on."""
