//! The memory bound (I7) where single clients and odd phases strain it: scripts and transactions,
//! many clients, slow readers, huge values, FLUSHALL, the expiry of everything, skewed reads.
//!
//! Small by default; `RR_SCALE=100`, as `make soak` sets it, gives the full sizes with
//! `maxmemory 200mb`. Each row prints its phases: peaks, limit, verdict.

mod bulk;
mod clients;
mod large_values;
mod many_keys;
mod transactions;
