"""Policies as pure functions, and how they are put into a torch optimizer."""
