"""BPG: HEVC intra frames in a small container (F. Bellard, BPG specification 0.9.5, 2015)."""
