"""The test bed: real servers and processes that tests start and stop."""
