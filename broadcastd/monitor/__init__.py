"""`broadcastd monitor`: looks at a daemon from outside, once a minute, and has somebody told."""
