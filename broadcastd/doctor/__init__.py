"""Looks at a whole installation and says how to mend each thing. It changes nothing and sends nothing.

Every check is a row of `checks.CHECKS`: a name and a function. What is asked of databases and of WeChat is in
the adapters' own `inspection`s; here facts become findings.
"""
