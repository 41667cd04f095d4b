"""Recorded trainings: how they are read, and what is forecast from them."""
