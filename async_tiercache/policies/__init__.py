"""Pure decisions: freshness, eviction, circuit breaking. Time and chance are arguments."""
