//! The server's part in replication: roles, and applying what comes from our master. Links to
//! peers are the agent's.

pub mod apply;
pub mod follow;
