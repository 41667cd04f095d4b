"""What a search measures, and the fits to it."""
