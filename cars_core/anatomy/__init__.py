"""Where things are in a film: lung and heart masks, and the regions findings occupy."""
