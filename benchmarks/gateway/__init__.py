"""Overhead of the gateway, compared with other servers doing the same work."""
