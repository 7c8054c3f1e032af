"""Tells an operator of notices: what is told when (`policy`), in which words (`texts`), and how (`sending`)."""
