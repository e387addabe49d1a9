//! Shard locks: one API for any number of shards; one shard first.
