"""The Lightning training and the three callbacks."""
