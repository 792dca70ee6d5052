"""What a codec is, and the bases that codecs share."""
