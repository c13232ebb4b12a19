//! Databases on a shard: sqlx, driven by the shard, with slices of one budget of connections.
