"""`python -m broadcastd`."""

from broadcastd.cli.main import main

main()
