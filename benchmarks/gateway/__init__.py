"""The gateway's own cost, and the same work behind other servers."""
