"""The embedded default: what its pictures are drawn from, its tiny policy, and how that was taught."""
