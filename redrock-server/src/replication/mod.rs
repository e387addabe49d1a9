//! The server's part in replication: its role, applying what comes from our master, and what our
//! replicas acknowledge. Links to peers are the agent's.

pub mod apply;
pub mod backlog;
pub mod commands;
pub mod failover;
pub mod follow;
pub mod history;
pub mod identity;
pub mod link_client;
pub mod replicas;
#[cfg(test)]
mod tests;
