"""Ways to tell a site that one of its jobs has ended."""
