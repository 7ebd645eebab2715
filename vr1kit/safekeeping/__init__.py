"""What keeps results whole: files, hashes, locks, checkpoints, provenance."""
