"""The callback: what WeChat pushes, one path an account, on a listener with nothing else on it."""
