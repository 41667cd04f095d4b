"""`python -m lrfinder`."""

from lrfinder.cli.main import main

main()
