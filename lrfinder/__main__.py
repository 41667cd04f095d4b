"""`python -m lrfinder`."""

from lrfinder.cli import main

main()
