"""Generates Triton's model repository: each model's configuration and files."""
