"""Policies as pure functions, what theory says of them, and how they are put into a torch optimizer."""
