"""What moves the best learning rate, as pure functions."""
