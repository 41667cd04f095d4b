"""Run range tests and probes on any training that can step and rewind; the plain-torch training."""
