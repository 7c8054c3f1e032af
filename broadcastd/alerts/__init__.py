"""Tells an operator of notices: what and when (`policy`), in which words (`texts`), and how (`sending`)."""
